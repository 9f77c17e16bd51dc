"""Masking: what is hidden in training, and the loop that fills a masked clip in again."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_fixtures import fixture

from accomp.core.errors import CombinationError
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.masking import Draw, fill_in, masked_after, per_level, training_mask
from accomp.core.model.tokens import MASK
from accomp.core.model.vocabulary import PAD_ID, Vocabulary
from accomp.core.types import TokenSpace

# ------------------------------------------------------------------------------------------------ the training mask


def test_levels_above_the_chosen_one_are_hidden_and_those_below_shown():
    rng = torch.Generator().manual_seed(0)
    masks = training_mask(torch.Size((4000, 4, 50)), rng)
    share = masks.float().mean(-1)
    partly = (share > 0) & (share < 1)
    assert (partly.sum(1) <= 1).all()
    assert (share[:, 1:] >= share[:, :-1]).all(), "what is finer is never hidden less"
    drawn = partly.any(1)
    chosen = partly[drawn].int().argmax(1)
    for row, level in zip(share[drawn], chosen, strict=True):
        assert (row[:level] == 0).all()
        assert (row[level + 1 :] == 1).all()
    counts = chosen.bincount(minlength=4)
    assert ((counts - drawn.sum() / 4) ** 2 / (drawn.sum() / 4)).sum() < 17.7, "uniform: one in 2000 for 3 degrees"


def test_the_share_that_is_hidden_is_the_cosine_of_a_uniform_angle():
    """One level: arccos(share) / (pi / 2) is u again. Kolmogorov-Smirnov; 400 frames blur it a little."""
    share = training_mask(torch.Size((4000, 1, 400)), torch.Generator().manual_seed(1)).double().mean((1, 2))
    u = (share.clamp(0, 1).arccos() / (math.pi / 2)).sort().values
    distance = (u - (torch.arange(4000) + 0.5) / 4000).abs().max()
    assert distance < 0.045, "the blur at u = 0 alone is 0.03; a uniform share instead would be 0.2 off"
    assert share.mean().item() == pytest.approx(2 / math.pi, abs=0.02)


def test_which_frames_are_hidden_is_even_and_each_clip_s_own():
    masks = training_mask(torch.Size((6000, 1, 8)), torch.Generator().manual_seed(2))[:, 0].double()
    assert masks.mean(0).sub(2 / math.pi).abs().max() < 0.03
    pairs = torch.corrcoef(torch.cat([masks[::2], masks[1::2]], dim=1).T)
    assert pairs[:8, 8:].abs().max() < 0.08, "neighbours in a batch share nothing"


def test_the_generator_decides_the_mask():
    first, second, other = (training_mask(torch.Size((3, 4, 9)), torch.Generator().manual_seed(n)) for n in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_masked_code_looks_like_nothing():
    assert Vocabulary(4, 10, {"instrument": 18}).ids(torch.tensor([MASK])) == PAD_ID


# ------------------------------------------------------------------------------------------------ the schedule


@pytest.mark.parametrize("frames", [500, 16])
def test_the_schedule_is_the_reference_s(frames):
    arrays = fixture("stemgen_mask_schedule.npz")
    rows = []
    for level, steps in enumerate(arrays[f"T{frames}_steps"].tolist()):
        for masked in [frames, *masked_after(frames, steps)[:-1]]:
            rows.append([0] * level + [masked] + [frames] * (3 - level))
    assert np.array_equal(rows, arrays[f"T{frames}_masked_per_level_at_each_forward"])


@pytest.mark.parametrize("steps", [*range(1, 26), 32, 64, 128])
def test_the_schedule_is_the_clamped_cosine_also_with_fewer_tokens_than_steps(steps):
    for tokens in [*range(45), 99, 500]:
        expected, left = [], tokens
        while left:
            t = len(expected)
            wanted = 0 if t == steps - 1 else math.trunc(round(math.cos((t + 1) / steps * math.pi / 2) * tokens, 6))
            left = 0 if t == steps - 1 else min(max(wanted, 1), left - 1)
            expected.append(left)
        assert masked_after(tokens, steps) == expected
        assert len(expected) == min(tokens, steps)


def test_the_schedule_where_the_cosine_is_a_fraction():
    assert masked_after(12, 3) == [10, 6, 0], "12 cos(30), 12 cos(60) = 6, 12 cos(90)"
    assert masked_after(1000, 6)[3] == 500
    assert masked_after(0, 8) == []


# ------------------------------------------------------------------------------------------------ numbers for levels


def space(levels: int) -> TokenSpace:
    return TokenSpace(32000, 640, codebooks=levels, codebook_size=10, latent_dim=6)


def test_numbers_for_levels():
    assert [per_level("x", None, (5, 4), space(k)) for k in (1, 2, 4)] == [(5,), (5, 4), (5, 4, 4, 4)]
    assert per_level("x", (3,), (5, 4), space(3)) == (3, 3, 3)
    assert per_level("x", (3, 2, 1), (5, 4), space(3)) == (3, 2, 1)
    for wrong in ((), (1, 2), (1, 2, 3, 4)):
        with pytest.raises(CombinationError, match=rf"sampler.steps = .* has {len(wrong)} numbers; give 3, one for"):
            per_level("sampler.steps", wrong, (5, 4), space(3))


# ------------------------------------------------------------------------------------------------ the draw

DRAWS = 20_000


def noise_for(draws: int, seed: int = 0) -> KeyedRandom:
    return KeyedRandom.seeded(seed).fold(torch.arange(draws)[None])


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, None), (2.0, 4), (1.0, 4), (1.0, 500)])
def test_codes_are_drawn_as_often_as_the_softmax_says(temperature, top_k):
    logits = torch.randn(12, generator=torch.Generator().manual_seed(3)) * 1.5
    kept = logits >= logits.sort(descending=True).values[min(top_k or 12, 12) - 1]
    expected = (logits / temperature).masked_fill(~kept, -torch.inf).double().softmax(0) * DRAWS
    codes, p = Draw(temperature, top_k)(logits.expand(1, DRAWS, -1), noise_for(DRAWS))
    counts = codes[0].bincount(minlength=12)
    assert (counts[~kept] == 0).all()
    assert ((counts - expected) ** 2 / expected)[kept].sum() < 33, "one in two thousand for 11 degrees of freedom"
    assert torch.allclose(p, logits.softmax(0)[codes]), "the model's probability, whatever the temperature"


def test_temperature_zero_takes_the_likeliest():
    logits = torch.randn(2, 40, 12, generator=torch.Generator().manual_seed(0))
    for draw in (Draw(temperature=0.0), Draw(temperature=0.0, top_k=5), Draw(top_k=1)):
        codes, p = draw(logits, KeyedRandom.seeded(0).fold(torch.arange(80).view(2, 40)))
        assert torch.equal(codes, logits.argmax(-1))
        assert torch.allclose(p, logits.softmax(-1).amax(-1))


@pytest.mark.parametrize("u", [2.0**-24, 0.5, 1 - 2.0**-24])
def test_what_is_impossible_is_never_drawn(u):
    """Even at the ends of the noise's range, where the cumulative sum is flat."""

    class Fixed:
        def uniform(self, n):
            return torch.full((1, 300, n), u)

    logits = torch.randn(1, 300, 50, generator=torch.Generator().manual_seed(0))
    impossible = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.8
    impossible[..., 25] = False
    codes, p = Draw()(logits.masked_fill(impossible, -torch.inf), Fixed())
    assert not impossible.gather(-1, codes[..., None]).any()
    assert (p > 0).all()


# ------------------------------------------------------------------------------------------------ the loop


class Told:
    """A model that says nothing, a draw whose code is the number of the step, and a ranking by a fixed table."""

    def __init__(self, scores: torch.Tensor):
        self.scores, self.levels, self.canvases = scores, [], []

    def predict(self, canvas, level):
        self.levels.append(level)
        self.canvases.append(canvas.clone())
        return torch.zeros(canvas.shape[0], canvas.shape[2], 1)

    def draw(self, logits, noise):
        codes = torch.full(logits.shape[:2], self.levels.count(self.levels[-1]) - 1)
        return codes, torch.ones(codes.shape)

    def rank(self, candidates):
        self.progress = candidates.progress
        return self.scores[:, candidates.level]

    def play(self, canvas, todo, steps):
        noise = KeyedRandom.seeded(0).fold(torch.arange(canvas.shape[0])[:, None]).fold(torch.arange(canvas.shape[1]))
        return fill_in(self.predict, canvas, todo, noise, steps=steps, draw=self.draw, rank=self.rank)


@st.composite
def clips(draw):
    """(canvas [B, K, T], todo, steps a level); rows from empty to full, scores with and without ties."""
    batch, levels, frames = draw(st.integers(1, 3)), draw(st.integers(1, 8)), draw(st.integers(1, 40))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    todo = torch.rand(batch, levels, frames, generator=rng) < torch.rand(batch, levels, 1, generator=rng) * 1.4 - 0.2
    scores = torch.randint(draw(st.sampled_from([2, 10**6])), todo.shape, generator=rng).float()
    canvas = torch.randint(100, 200, todo.shape, generator=rng)
    return canvas, todo, scores, draw(st.lists(st.integers(1, 12), min_size=levels, max_size=levels))


@settings(max_examples=60, deadline=None)
@given(clips())
def test_every_row_and_level_goes_by_its_own_schedule_and_ranking(clip):
    canvas, todo, scores, steps = clip
    told = Told(scores)
    codes = told.play(canvas, todo, steps)
    assert torch.equal(codes[~todo], canvas[~todo])
    counts = todo.sum(-1)
    assert Counter(told.levels) == Counter(
        {q: most for q, n in enumerate(steps) if (most := min(n, int(counts[:, q].max())))}
    )
    assert told.levels == sorted(told.levels)
    for b, q in np.ndindex(*counts.shape):
        frames = todo[b, q].nonzero().squeeze(1).tolist()
        best_first = sorted(frames, key=lambda t: (-scores[b, q, t].item(), t))
        done = [len(frames) - left for left in (len(frames), *masked_after(len(frames), steps[q]))]
        revealed = {t: step for step, (old, new) in enumerate(pairwise(done)) for t in best_first[old:new]}
        assert {t: codes[b, q, t].item() for t in frames} == revealed
        shown = [seen[b, q] for seen, level in zip(told.canvases, told.levels, strict=True) if level == q]
        for step, seen in enumerate(shown):
            unknown = [t for t in frames if revealed[t] >= step]
            assert (seen == MASK).nonzero().squeeze(1).tolist() == unknown


def test_the_canvas_shows_coarser_levels_and_hides_finer_ones():
    todo = torch.ones(1, 3, 6, dtype=torch.bool)
    told = Told(torch.arange(18.0).view(1, 3, 6))
    told.play(torch.zeros(1, 3, 6).long(), todo, (2, 2, 2))
    for level, seen in zip(told.levels, told.canvases, strict=True):
        assert (seen[:, :level] >= 0).all()
        assert (seen[:, level + 1 :] == MASK).all()


def test_no_two_draws_or_rankings_share_their_noise():
    """A key for every row, level, step, frame and use, and the same ones again in another filling."""

    def keys() -> torch.Tensor:
        told, used = Told(torch.rand(2, 3, 10)), []
        draw, rank = told.draw, told.rank
        told.draw = lambda logits, noise: (used.append(noise.key), draw(logits, noise))[1]
        told.rank = lambda candidates: (used.append(candidates.noise.key), rank(candidates))[1]
        told.play(torch.zeros(2, 3, 10).long(), torch.ones(2, 3, 10, dtype=torch.bool), (4, 4, 2))
        return torch.stack(used)

    assert keys().shape == (2 * 10, 2, 10)
    assert len(keys().unique()) == 2 * 10 * 2 * 10
    assert torch.equal(keys(), keys())


def test_progress_is_each_row_s_own_and_ends_at_one():
    todo = torch.arange(8) < torch.tensor([8, 3, 0])[:, None, None]
    told, seen = Told(torch.rand(3, 1, 8)), []
    rank = told.rank
    told.rank = lambda candidates: (seen.append(candidates.progress[:2, 0].tolist()), rank(candidates))[1]
    told.play(torch.zeros(3, 1, 8).long(), todo, (4,))
    assert [row for row, _ in seen] == [0.25, 0.5, 0.75, 1.0]
    assert [row for _, row in seen] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])


def test_scores_that_are_no_numbers_leave_nothing_masked():
    scores, chance = torch.rand(2, 2, 1, 20, generator=torch.Generator().manual_seed(0))
    scores[0, 0, ::3], scores[1, 0, ::2], scores[1, 0, 1::4] = torch.nan, -torch.inf, torch.inf
    assert (Told(scores).play(torch.zeros(2, 1, 20).long(), chance < 0.7, (5,)) >= 0).all()
