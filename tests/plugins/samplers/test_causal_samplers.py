"""The samplers of causal models: which codes can come, how often, and that a code's noise is its own in all of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from accomp.core.keyed_random import KeyedRandom
from accomp.core.registry import Registry
from accomp.core.testing import check_plugin
from accomp.core.types import TokenSpace
from accomp.plugins.samplers.greedy import Greedy
from accomp.plugins.samplers.min_p import MinP
from accomp.plugins.samplers.top_k import TopK
from accomp.plugins.samplers.top_p import TopP

CHANCE = [TopK, TopP, MinP]
"""The samplers that have a temperature."""
CODES = 12
SPACE = TokenSpace(32000, 640, codebooks=2, codebook_size=CODES, latent_dim=6)
DRAWS = 20_000


def made(cls: type, **config):
    return cls(cls.Config(**config), SPACE)


def random_logits(*shape: int, seed: int = 3) -> Tensor:
    return 1.5 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def keys(*shape: int) -> KeyedRandom:
    return KeyedRandom.seeded(0).fold(torch.arange(math.prod(shape)).view(shape))


def draws(sampler, logits: Tensor) -> Tensor:
    """Many picks from one row of logits [C]."""
    return sampler.pick(logits.expand(DRAWS, 1, -1), keys(DRAWS, 1))[:, 0]


def nucleus(logits: Tensor, p: float, temperature: float) -> set[int]:
    """Codes from the likeliest down until they hold p."""
    probability = (logits.double() / temperature).softmax(-1).tolist()
    kept: set[int] = set()
    for code in sorted(range(len(probability)), key=lambda c: -probability[c]):
        if sum(probability[c] for c in kept) >= p:
            break
        kept.add(code)
    return kept


def near_the_likeliest(logits: Tensor, p: float, temperature: float) -> set[int]:
    probability = (logits.double() / temperature).softmax(-1).tolist()
    return {code for code, each in enumerate(probability) if each >= p * max(probability)}


RULES = {TopP: nucleus, MinP: near_the_likeliest}


@pytest.mark.parametrize("cls", RULES)
@pytest.mark.parametrize(("p", "temperature"), [(0.8, 1.0), (0.5, 2.0), (0.3, 0.7), (0.1, 1.3)])
def test_codes_come_as_often_as_the_softmax_of_those_kept_says(cls, p, temperature):
    logits = random_logits(CODES)
    kept = sorted(RULES[cls](logits, p, temperature))
    counts = draws(made(cls, p=p, temperature=temperature), logits).bincount(minlength=CODES)
    assert counts[kept].sum() == DRAWS
    expected = (logits[kept].double() / temperature).softmax(-1) * DRAWS
    chi_squared = ((counts[kept] - expected) ** 2 / expected).sum()
    assert chi_squared < 33, "one in two thousand for 11 degrees of freedom, and less for fewer"


def test_temperature_comes_before_the_choice_of_codes():
    logits = torch.tensor([3.0, 2.0, 1.0, 0.0])
    for cls, p in ((TopP, 0.9), (MinP, 0.3)):
        kept = [set(draws(made(cls, p=p, temperature=t), logits).tolist()) for t in (0.4, 1.0, 5.0)]
        assert kept == [RULES[cls](logits, p, t) for t in (0.4, 1.0, 5.0)]
        assert len(kept[0]) < len(kept[1]) < len(kept[2])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_where_every_code_is_kept_all_samplers_draw_the_same(temperature):
    logits, rng = random_logits(500, 2, CODES), keys(500, 2)
    expected = (logits.double() / temperature + rng.gumbel(CODES).double()).argmax(-1)
    for sampler in (made(TopK, k=CODES), made(TopK, k=10**6), made(TopP, p=1.0), made(MinP, p=0.0)):
        sampler.temperature = temperature
        assert torch.equal(sampler.pick(logits, rng), expected), type(sampler).__name__


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 0.99), st.floats(0.2, 3.0))
def test_a_code_s_noise_is_its_own_whatever_else_is_kept(seed, p, temperature):
    logits, rng = random_logits(1, 1, CODES, seed=seed), keys(1, 1).fold(seed)
    noisy = logits[0, 0].double() / temperature + rng.gumbel(CODES)[0, 0]
    for cls, rule in RULES.items():
        kept = rule(logits[0, 0], p, temperature)
        code = made(cls, p=p, temperature=temperature).pick(logits, rng).item()
        assert code == max(kept, key=lambda c: noisy[c].item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "sampler",
    [
        made(Greedy), *(made(cls, temperature=0.0) for cls in CHANCE), made(TopK, k=1),
        made(TopP, p=1e-12), made(TopP, p=0.01), made(MinP, p=1.0),
        *(made(cls, temperature=t) for cls in CHANCE for t in (1e-6, 1e-45)),
    ],
)  # fmt: skip
def test_what_leaves_no_choice_takes_the_likeliest(sampler, dtype):
    logits = random_logits(20, 2, CODES).to(dtype)
    assert (logits.topk(2).values.diff(dim=-1) != 0).all(), "each row has one likeliest code"
    picked = sampler.pick(logits, keys(20, 2))
    assert picked.dtype == torch.int64
    assert torch.equal(picked, logits.argmax(-1))


def test_without_chance_the_first_of_equals_is_taken():
    logits = torch.tensor([0.0, 2.0, -1.0, 2.0, 2.0]).expand(50, 1, -1)
    for sampler in (made(Greedy), *(made(cls, temperature=0.0) for cls in CHANCE)):
        assert (sampler.pick(logits, keys(50, 1)) == 1).all()


@pytest.mark.parametrize("sampler", [made(TopP, p=0.3), made(TopP, p=1e-9), made(MinP, p=1.0)])
def test_codes_as_likely_as_one_that_is_kept_are_kept_too(sampler):
    picked = draws(sampler, torch.tensor([2.0, 1.0, 2.0, 2.0, -3.0]))
    assert set(picked.tolist()) == {0, 2, 3}
    assert picked.bincount()[[0, 2, 3]].min() > 0.31 * DRAWS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 1e30])
def test_what_is_impossible_never_comes(temperature, dtype):
    logits = torch.full((CODES,), -torch.inf, dtype=dtype)
    logits[[2, 7]] = torch.tensor([0.0, -0.5], dtype=dtype)
    possible = {2, 7} if temperature else {2}
    for cls, everything in ((TopK, {"k": CODES}), (TopP, {"p": 1.0}), (MinP, {"p": 0.0})):
        assert set(draws(made(cls, temperature=temperature, **everything), logits).tolist()) == possible
    assert set(draws(made(Greedy), logits).tolist()) == {2}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_low_precision_are_drawn_from_in_full_precision(dtype):
    logits, rng = random_logits(500, 2, CODES).to(dtype), keys(500, 2)
    for cls in CHANCE:
        sampler = made(cls, temperature=0.7)
        assert torch.equal(sampler.pick(logits, rng), sampler.pick(logits.float(), rng))
    great = torch.tensor([[[60_000.0, -60_000.0, 59_968.0]]], dtype=torch.float16)
    for cls in CHANCE:
        assert made(cls, temperature=0.01).pick(great, keys(1, 1)).item() == 0


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("top_p", {"p": 1.0, "temperature": 0.5}), ("top_p", {"temperature": 0.0}),
        ("min_p", {"p": 0.0, "temperature": 0.5}), ("min_p", {"temperature": 0.0}),
    ],
)  # fmt: skip
def test_the_ends_of_their_ranges_keep_a_sampler_s_promises(name, config):
    check_plugin("sampler", name, Registry(third_party=False), **config)


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (TopP, {"p": 0.0}), (TopP, {"p": 1.1}), (TopP, {"p": math.nan}), (MinP, {"p": -0.1}), (MinP, {"p": 1.1}),
        *((cls, {"temperature": t}) for cls in CHANCE for t in (-0.1, math.inf, math.nan)),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(cls, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        cls.Config(**wrong)
