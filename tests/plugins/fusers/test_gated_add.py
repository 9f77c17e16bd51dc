"""The gated fusion against its equation, written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from accomp.core.types import TokenSpace
from accomp.plugins.fusers.gated_add import GatedAdd


def space(latent_dim: int = 6) -> TokenSpace:
    return TokenSpace(32000, 640, codebooks=4, codebook_size=10, latent_dim=latent_dim)


def fuser(norm: str = "paper", latent_dim: int = 6) -> GatedAdd:
    """Width 8, every parameter random."""
    made = GatedAdd(GatedAdd.Config(norm=norm), space(latent_dim), 8)
    for n, parameter in enumerate(made.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n))
    return made


def ln(v: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
    mean, var = v.mean(-1, keepdim=True), v.var(-1, keepdim=True, unbiased=False)
    return (v - mean) / (var + 1e-5).sqrt() * norm.weight + norm.bias


@pytest.mark.parametrize("norm", ["paper", "reference"])
def test_it_is_the_equation(norm):
    f, x, e = fuser(norm), torch.randn(2, 5, 6), torch.randn(2, 5, 8)
    wx = ln(x, f.input_norm) @ f.project.weight.T + f.project.bias
    ge = f.gate * ln(e, f.output_norm)
    expected = ln(wx, f.norm) + ge if norm == "paper" else ln(wx + ge, f.norm)
    assert torch.allclose(f.fuse(x, e), expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["paper", "reference"])
def test_without_input_it_is_the_normalised_output(norm):
    f, e, c = fuser(norm), torch.randn(2, 5, 8), torch.randn(2, 1, 8)
    assert torch.allclose(f.fuse(None, e), ln(e, f.output_norm), atol=1e-5)
    assert torch.allclose(f.fuse(None, e, c), ln(e + c, f.output_norm), atol=1e-5)


@pytest.mark.parametrize("norm", ["paper", "reference"])
def test_without_output_it_is_the_normalised_input(norm):
    f, x = fuser(norm), torch.randn(2, 5, 6)
    wx = ln(x, f.input_norm) @ f.project.weight.T + f.project.bias
    assert torch.allclose(f.fuse(x, None), ln(wx, f.norm), atol=1e-5)


@pytest.mark.parametrize("norm", ["paper", "reference"])
def test_labels_are_added_to_the_output_and_stand_for_it_where_it_is_absent(norm):
    f, x, e, c = fuser(norm), torch.randn(2, 5, 6), torch.randn(2, 5, 8), torch.randn(2, 1, 8)
    assert torch.equal(f.fuse(x, e, c), f.fuse(x, e + c))
    assert torch.equal(f.fuse(x, None, c), f.fuse(x, c.expand(-1, 5, -1)))


@pytest.mark.parametrize("norm", ["paper", "reference"])
def test_the_gate_starts_shut(norm):
    fresh = GatedAdd(GatedAdd.Config(norm=norm), space(), 8)
    x, e = torch.randn(2, 5, 6), torch.randn(2, 2, 5, 8)
    assert torch.equal(fresh.fuse(x, e[0]), fresh.fuse(x, e[1]))
    fresh.fuse(x, e[0])[..., 0].sum().backward()
    assert fresh.gate.grad.abs().sum() > 0, "but it can open"


def test_the_reference_projects_only_where_widths_differ():
    def projects(norm, latent_dim):
        return isinstance(fuser(norm, latent_dim).project, torch.nn.Linear)

    assert projects("paper", 8)
    assert projects("paper", 6)
    assert projects("reference", 6)
    assert not projects("reference", 8)
    f, x, e = fuser("reference", 8), torch.randn(1, 3, 8), torch.randn(1, 3, 8)
    expected = F.layer_norm(ln(x, f.input_norm) + f.gate * ln(e, f.output_norm), (8,), f.norm.weight, f.norm.bias)
    assert torch.allclose(f.fuse(x, e), expected, atol=1e-5)
