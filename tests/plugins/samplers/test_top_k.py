"""Top-k sampling: which codes can come, and how often."""

from __future__ import annotations

import pytest
import torch

from accomp.core.keyed_random import KeyedRandom
from accomp.core.types import TokenSpace
from accomp.plugins.samplers.top_k import TopK

SPACE = TokenSpace(32000, 640, codebooks=2, codebook_size=12, latent_dim=6)
DRAWS = 20_000


def draws(sampler: TopK, logits: torch.Tensor) -> torch.Tensor:
    """Many picks from one row of logits [C]."""
    rng = KeyedRandom.seeded(0).fold(torch.arange(DRAWS)[:, None])
    return sampler.pick(logits.expand(DRAWS, 1, -1), rng)[:, 0]


@pytest.mark.parametrize(("k", "temperature"), [(4, 1.0), (4, 0.5), (12, 2.0), (200, 1.0)])
def test_codes_come_as_often_as_the_softmax_of_the_likeliest_says(k, temperature):
    logits = torch.randn(12, generator=torch.Generator().manual_seed(3)) * 1.5
    kept = logits >= logits.sort(descending=True).values[min(k, 12) - 1]
    expected = (logits / temperature).masked_fill(~kept, -torch.inf).double().softmax(0) * DRAWS
    counts = draws(TopK(TopK.Config(k, temperature), SPACE), logits).bincount(minlength=12)
    assert (counts[~kept] == 0).all()
    chi_squared = ((counts - expected) ** 2 / expected)[kept].sum()
    assert chi_squared < 33, "one in two thousand for 11 degrees of freedom"


def test_temperature_zero_and_k_one_take_the_likeliest():
    logits = torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(0))
    rng = KeyedRandom.seeded(0).fold(torch.arange(6).view(3, 2))
    for config in (TopK.Config(temperature=0.0), TopK.Config(k=1)):
        assert torch.equal(TopK(config, SPACE).pick(logits, rng), logits.argmax(-1))


def test_each_code_s_noise_is_its_own_whatever_k():
    logits = torch.zeros(1, 1, 12)
    logits[..., 5:] = -1.0
    rng = KeyedRandom.seeded(4).fold(torch.zeros(1, 1, dtype=torch.int64))
    noisy = logits + rng.gumbel(12)
    for k in (5, 12):
        assert TopK(TopK.Config(k=k), SPACE).pick(logits, rng).item() == noisy[0, 0, :k].argmax()


@pytest.mark.parametrize("wrong", [{"k": 0}, {"temperature": -0.1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TopK.Config(**wrong)
