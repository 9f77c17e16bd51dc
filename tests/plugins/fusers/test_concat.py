"""The fusion side by side, against its equation."""

from __future__ import annotations

import pytest
import torch

from accomp.core.errors import CombinationError
from accomp.core.types import TokenSpace
from accomp.plugins.fusers.concat import Concat

SPACE = TokenSpace(32000, 640, codebooks=4, codebook_size=10, latent_dim=6)
RNG = torch.Generator().manual_seed(0)
X, E, C = (torch.randn(*shape, generator=RNG) for shape in ((2, 5, 6), (2, 5, 4), (2, 1, 4)))


def made_with(norm: bool) -> Concat:
    """Width 8, weights of another scale than the biases."""
    made = Concat(Concat.Config(norm=norm), SPACE, 8)
    for n, parameter in enumerate(made.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n)) + n
    return made


@pytest.fixture
def fuser() -> Concat:
    return made_with(norm=False)


def test_norms_bring_each_half_to_unit_scale():
    fuser, bare = made_with(norm=True), made_with(norm=False)
    wanted = bare.fuse(X, E, C)
    for half, norm in ((slice(4), fuser.input_norm), (slice(4, 8), fuser.output_norm)):
        part = wanted[..., half]
        unit = (part - part.mean(-1, keepdim=True)) / (part.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        assert torch.allclose(fuser.fuse(X, E, C)[..., half], unit * norm.weight + norm.bias, atol=1e-4)
    assert (fuser.fuse(None, E, C)[..., :4] == 0).all()


def projected(fuser: Concat) -> torch.Tensor:
    return X @ fuser.project.weight.T + fuser.project.bias


def test_each_half_is_one_stream_plus_the_labels(fuser):
    h = fuser.fuse(X, E, C)
    assert torch.allclose(h[..., :4], projected(fuser) + C, atol=1e-6)
    assert torch.allclose(h[..., 4:], E + C)
    assert torch.equal(fuser.fuse(X, E), fuser.fuse(X, E, torch.zeros_like(C)))


def test_the_half_of_what_is_not_there_is_zero(fuser):
    deaf, mute = fuser.fuse(None, E, C), fuser.fuse(X, None, C)
    assert torch.equal(deaf[..., 4:], E + C)
    assert (deaf[..., :4] == 0).all(), "neither bias nor labels"
    assert torch.allclose(mute[..., :4], projected(fuser) + C, atol=1e-6)
    assert (mute[..., 4:] == 0).all()
    assert torch.equal(fuser.fuse(None, E), torch.cat([torch.zeros_like(E), E], dim=-1))


def test_silence_is_not_absence(fuser):
    """A context that is withheld in training is zero latents: their half is the bias."""
    assert torch.allclose(fuser.fuse(torch.zeros_like(X), E)[..., :4], fuser.project.bias.expand(2, 5, 4))


def test_an_odd_width_is_refused():
    with pytest.raises(CombinationError, match=r"fuser 'concat' .* half of model.width each; 7 is odd"):
        Concat(Concat.Config(), SPACE, 7)
