"""The plain fusion against its equation."""

from __future__ import annotations

import torch

from accomp.core.types import TokenSpace
from accomp.plugins.fusers.add import Add

SPACE = TokenSpace(32000, 640, codebooks=4, codebook_size=10, latent_dim=6)


def test_norms_bring_both_to_unit_scale():
    f = Add(Add.Config(), SPACE, 8)
    x, e, c = torch.randn(2, 5, 6), torch.randn(2, 5, 8), torch.randn(2, 1, 8)

    def unit(h):
        return (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    wx = x @ f.project.weight.T + f.project.bias
    assert torch.allclose(f.fuse(x, e, c), unit(wx) + unit(e + c), atol=1e-4)
    assert torch.allclose(f.fuse(x, None), unit(wx), atol=1e-4)
    assert torch.allclose(f.fuse(None, 100 * e), unit(100 * e), atol=1e-4)


def test_it_is_the_sum_of_what_is_there():
    f = Add(Add.Config(norm=False), SPACE, 8)
    x, e, c = torch.randn(2, 5, 6), torch.randn(2, 5, 8), torch.randn(2, 1, 8)
    wx = x @ f.project.weight.T + f.project.bias
    assert f.embed_width == 8
    assert torch.allclose(f.fuse(x, e), wx + e, atol=1e-5)
    assert torch.allclose(f.fuse(x, e, c), wx + e + c, atol=1e-5)
    assert torch.allclose(f.fuse(x, None), wx, atol=1e-5)
    assert torch.allclose(f.fuse(x, None, c), wx + c, atol=1e-5)
    assert torch.equal(f.fuse(None, e), e)
    assert torch.equal(f.fuse(None, e, c), e + c)
