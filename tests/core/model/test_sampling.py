"""The likeliest codes, chosen without sorting, are those that sorting chooses; samplers draw the same from them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from marks import COMPILES, NEEDS_COMPILER
from torch import Tensor

from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.sampling import fewest_likeliest, in_one_kernel, temper
from accomp.core.types import TokenSpace
from accomp.plugins.samplers import top_k, top_p

SPACE = TokenSpace(32000, 640, codebooks=2, codebook_size=12, latent_dim=6)
ROW = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=12)


def likeliest(row: Tensor, count: int) -> Tensor:
    """By sorting: no less than the one at place `count`."""
    return row >= row.sort(descending=True).values[min(count, len(row)) - 1]


@given(ROW, st.integers(1, 14), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_so_many_are_chosen_and_their_equals(row, count, dtype):
    x = torch.tensor(row).to(dtype)
    assert torch.equal(fewest_likeliest(x, 1.0, count), likeliest(x, count))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_last_bit_counts(dtype):
    x = 1 + torch.arange(100).to(dtype) * torch.finfo(dtype).eps
    for row in (x, -x):
        assert fewest_likeliest(row, 1.0, 7).sum() == 7


def test_rows_are_chosen_from_one_by_one():
    x = torch.randn(3, 2, 50, generator=torch.Generator().manual_seed(0)) * torch.logspace(-30, 30, 50)
    seen = fewest_likeliest(x, 1.0, 7)
    assert torch.equal(seen, torch.stack([torch.stack([likeliest(row, 7) for row in rows]) for rows in x]))


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), min_size=1, max_size=9), st.integers(1, 30))
def test_weights_are_summed_from_the_likeliest_down(codes, needed):
    """With equals, and weights of 0."""
    x, weight = torch.tensor(codes).float().unbind(1)
    enough = [least for least in x.tolist() if weight[x >= least].sum() >= needed]
    assert torch.equal(fewest_likeliest(x, weight, needed), x >= max(enough, default=-math.inf))


def pick(sampler, logits: Tensor, temperature: Tensor) -> Tensor:
    rng = KeyedRandom.seeded(0).fold(torch.arange(logits[..., 0].numel()).view(logits.shape[:-1]))
    return sampler.pick(logits, rng, temperature=temperature)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("module", "sampler"),
    [
        (top_k, top_k.TopK(top_k.TopK.Config(k=40), SPACE)),
        (top_k, top_k.TopK(top_k.TopK.Config(k=2000), SPACE)),
        (top_p, top_p.TopP(top_p.TopP.Config(p=0.7), SPACE)),
        (top_p, top_p.TopP(top_p.TopP.Config(p=1.0), SPACE)),
    ],
    ids=["40", "all", "0.7", "1.0"],
)
def test_samplers_draw_the_same_codes_in_one_kernel(module, sampler, dtype, monkeypatch):
    """Temperature 0 among them. No row has equal logits at the border."""
    rows = torch.stack([torch.randperm(300, generator=torch.Generator().manual_seed(n)) for n in range(20)])
    logits = (rows.view(10, 2, 300) * 0.03125 - 5).to(dtype)
    temperature = torch.tensor([0.0, 0.5, 1.0, 1.3, 2.0]).repeat(2)
    sorted_ = pick(sampler, logits, temperature)
    monkeypatch.setattr(module, "in_one_kernel", lambda _: True)
    assert torch.equal(pick(sampler, logits, temperature), sorted_)


@COMPILES
@NEEDS_COMPILER
def test_it_compiles_to_the_same():
    x = torch.randn(2, 4, 100, generator=torch.Generator().manual_seed(0))
    chosen = torch.compile(fewest_likeliest, fullgraph=True, dynamic=False)
    for row in (x, x.bfloat16()):
        assert torch.equal(chosen(row, 1.0, 9), fewest_likeliest(row, 1.0, 9))


def test_a_cpu_sorts():
    assert not in_one_kernel(torch.zeros(1))


def test_the_first_of_equals_is_the_likeliest_at_temperature_zero():
    seen = temper(torch.tensor([[1.0, 3.0, 3.0, -math.inf]]), 0.0)
    assert seen.tolist() == [[-math.inf, 0.0, -math.inf, -math.inf]]
    assert seen.dtype == torch.float32
