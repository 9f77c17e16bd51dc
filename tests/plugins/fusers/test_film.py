"""Feature-wise modulation against its equation, and how it starts."""

from __future__ import annotations

import torch

from accomp.core.types import TokenSpace
from accomp.plugins.fusers.film import FiLM

SPACE = TokenSpace(32000, 640, codebooks=4, codebook_size=10, latent_dim=6)


def fresh() -> FiLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FiLM(FiLM.Config(), SPACE, 8)


def given(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, s, d, generator=rng) for s, d in ((5, 6), (5, 8), (1, 8)))


def ln(v: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
    mean, var = v.mean(-1, keepdim=True), v.var(-1, keepdim=True, unbiased=False)
    return (v - mean) / (var + 1e-5).sqrt() * norm.weight + norm.bias


def test_it_is_the_equation_with_whatever_is_there():
    f, (x, e, c) = fresh(), given()
    for n, parameter in enumerate(f.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n))
    both = ln(x, f.input_norm) @ f.modulation.weight.T + f.modulation.bias
    gamma, beta = both[..., :8], both[..., 8:]

    def out(v):
        return ln(v, f.output_norm)

    for case, expected in (
        ((x, e), (1 + gamma) * out(e) + beta),
        ((x, e, c), (1 + gamma) * out(e + c) + beta),
        ((None, e), out(e)),
        ((None, e, c), out(e + c)),
        ((x, None), beta),
        ((x, None, c), (1 + gamma) * out(c) + beta),
    ):
        assert torch.allclose(f.fuse(*case), expected, atol=1e-5)


def test_it_starts_as_a_sum_in_which_both_sides_are_heard():
    f, (x, e, _) = fresh(), given()
    h = f.fuse(x, e)
    assert torch.allclose(h - f.fuse(x, None), f.fuse(None, e), atol=1e-6), "gamma is zero"
    assert f.fuse(x, None).std() > 0.1, "beta is not"
    h.square().sum().backward()
    gradient = f.modulation.weight.grad
    assert (gradient.abs().sum(1) > 0).all(), "and every feature can be modulated"
