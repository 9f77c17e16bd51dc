"""The two masked samplers: their equations, the order in which they fill, and what they ask of the model."""

from __future__ import annotations

import math

import pytest
import torch

from accomp.core.errors import CombinationError
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.masking import Candidates
from accomp.core.model.tokens import MASK
from accomp.core.types import TokenSpace
from accomp.plugins.samplers.causal_bias import CausalBias
from accomp.plugins.samplers.vampnet import VampNet

C = 9
BOTH = pytest.mark.parametrize("sampler", [VampNet, CausalBias])


def space(levels: int) -> TokenSpace:
    return TokenSpace(32000, 640, codebooks=levels, codebook_size=C, latent_dim=6)


def noise_of(sessions: list[int], levels: int, seed: int = 0) -> KeyedRandom:
    return KeyedRandom.of_sessions(seed, torch.tensor(sessions), levels)


class Model:
    """Logits [B, K, T, C] that stay as they are; remembers the canvases it was shown."""

    def __init__(self, logits: torch.Tensor):
        self.logits, self.levels, self.canvases = logits, [], []

    def __call__(self, canvas, level):
        self.levels.append(level)
        self.canvases.append(canvas.clone())
        return self.logits[:, level]


def random_logits(batch: int, levels: int, frames: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(batch, levels, frames, C, generator=torch.Generator().manual_seed(seed))


def steps_of(sampler, logits: torch.Tensor) -> torch.Tensor:
    """Fill one level, a code a step: logits [B, T, C] -> in which step each frame was filled in [B, T]."""
    batch, frames = logits.shape[:2]
    model, todo = Model(logits[:, None]), torch.ones(batch, 1, frames, dtype=torch.bool)
    sampler.fill(model, todo.long(), todo, noise_of(list(range(batch)), 1))
    steps = (torch.stack(model.canvases) == MASK).sum(0)[:, 0] - 1
    assert torch.equal(steps.sort().values, torch.arange(frames).expand(batch, -1))
    return steps


# ------------------------------------------------------------------------------------------------ the rankings


def candidates(level: int, done: float) -> Candidates:
    p = torch.rand(2, 40, generator=torch.Generator().manual_seed(1)).clamp(min=1e-3)
    noise = noise_of([0, 1], 1).fold(torch.arange(40))
    return Candidates(level, p, torch.tensor([[done], [1.0]]), noise)


def test_causal_bias_ranks_by_eq_1_of_stemgen():
    given = candidates(0, 0.25)
    ranks = CausalBias(CausalBias.Config(w_c=0.3, w_s=0.7, w_r=1.1), space(1))._rank(given)
    chance = given.noise.uniform(1)[..., 0]
    for n in range(40):
        expected = 0.3 * given.p[:, n] + 0.7 * (1 - n / 40) + 1.1 * chance[:, n]
        assert torch.allclose(ranks[:, n], expected)


def test_vampnet_ranks_by_eq_4_of_the_streaming_paper_with_chance_that_cools_down():
    sampler = VampNet(VampNet.Config(temperatures=(8.0, 3.0)), space(2))
    for level, heat in ((0, 8.0), (1, 3.0)):
        given = candidates(level, 0.25)
        u = given.noise.uniform(1)[..., 0].double()
        expected = given.p.double().log() + torch.tensor([[0.75], [0.0]]) * heat * -(-u.log()).log()
        assert torch.allclose(sampler._rank(given).double(), expected, atol=1e-4)


def test_the_papers_weights_are_the_defaults():
    config = CausalBias.Config()
    assert (config.w_c, config.w_s, config.w_r) == (0.1, 0.1, 1.0)
    assert VampNet(VampNet.Config(), space(4)).heat == (8.0, 8.0, 4.0, 4.0)
    for sampler in (VampNet, CausalBias):
        assert sampler(sampler.Config(), space(4)).steps == (128, 64, 32, 32)
        assert sampler.Config().temperature == 1.0
        assert sampler.Config().top_k is None, "the logits' own softmax"


# ------------------------------------------------------------------------------------------------ the order


def test_a_strong_causal_bias_fills_from_the_start():
    steps = steps_of(CausalBias(CausalBias.Config(w_s=100.0), space(1)), random_logits(2, 1, 30)[:, 0])
    assert torch.equal(steps, torch.arange(30).expand(2, -1))


def test_a_weak_causal_bias_prefers_earlier_frames():
    """On average over clips; without it no frame comes earlier than another."""

    def mean_step(**config: float) -> torch.Tensor:
        logits = random_logits(400, 1, 12)[:, 0]
        return steps_of(CausalBias(CausalBias.Config(**config), space(1)), logits).double().mean(0)

    biased, free = mean_step(w_s=0.5), mean_step(w_s=0.0)
    assert biased[:4].mean() < 4.5 < 6.5 < biased[8:].mean()
    assert (free - 5.5).abs().max() < 0.7, "four standard errors"


@pytest.mark.parametrize(
    "sampler",
    [
        CausalBias(CausalBias.Config(w_s=0.0, w_r=0.0, w_c=1.0, temperature=0.0), space(1)),
        VampNet(VampNet.Config(temperatures=(0.0,), temperature=0.0), space(1)),
    ],
    ids=["causal_bias", "vampnet"],
)
def test_without_chance_what_is_surest_comes_first(sampler):
    logits = random_logits(2, 1, 30)[:, 0]
    surest = logits.softmax(-1).amax(-1).argsort(dim=-1, descending=True)
    assert torch.equal(steps_of(sampler, logits).gather(1, surest), torch.arange(30).expand(2, -1))


def test_with_much_chance_vampnet_begins_anywhere():
    sampler = VampNet(VampNet.Config(temperatures=(1000.0,)), space(1))
    first = steps_of(sampler, random_logits(1, 1, 12)[0].expand(600, -1, -1)).argmin(1)
    assert ((first.bincount(minlength=12) - 50.0) ** 2 / 50).sum() < 33, "uniform: one in 2000 for 11 degrees"


# ------------------------------------------------------------------------------------------------ what comes out


@BOTH
def test_every_code_is_drawn_from_the_model_s_distribution(sampler):
    """Logits that do not depend on the canvas: with one step, all candidates are kept as drawn."""
    logits = random_logits(1, 1, 1)[0, 0, 0]
    made = sampler(sampler.Config(steps=(1,)), space(1))
    todo = torch.ones(20, 1, 1000, dtype=torch.bool)
    codes = made.fill(Model(logits.expand(20, 1, 1000, C)), todo.long(), todo, noise_of(list(range(20)), 1))
    expected = logits.double().softmax(0) * codes.numel()
    assert ((codes.flatten().bincount(minlength=C) - expected) ** 2 / expected).sum() < 28, "one in 2000"


@BOTH
def test_a_session_s_codes_are_its_own(sampler):
    """Beside whom it is played, and how much they have to do, changes nothing; another seed or number does."""
    logits, rng = random_logits(4, 3, 25), torch.Generator().manual_seed(2)
    canvas = torch.randint(C, (4, 3, 25), generator=rng)
    todo = torch.rand(4, 3, 25, generator=rng) < torch.tensor([0.1, 0.5, 0.9, 1.1])[:, None, None]
    made = sampler(sampler.Config(steps=(5, 9, 40)), space(3))

    def fill(rows: list[int], sessions: list[int], seed: int = 0) -> torch.Tensor:
        return made.fill(Model(logits[rows]), canvas[rows], todo[rows], noise_of(sessions, 3, seed))

    whole = fill([0, 1, 2, 3], [0, 1, 2, 3])
    assert torch.equal(fill([3, 1], [3, 1]), whole[[3, 1]])
    assert torch.equal(fill([2], [2]), whole[[2]])
    assert not torch.equal(fill([3], [4]), whole[[3]])
    assert not torch.equal(fill([3], [3], seed=1), whole[[3]])
    twins = fill([3, 3], [5, 6])
    assert not torch.equal(twins[0], twins[1])


@BOTH
@pytest.mark.parametrize("levels", range(1, 9))
def test_the_defaults_serve_any_number_of_levels(sampler, levels):
    made = sampler(sampler.Config(), space(levels))
    assert made.steps == (128, 64, 32, 32, 32, 32, 32, 32)[:levels]
    model, todo = Model(random_logits(2, levels, 5)), torch.ones(2, levels, 5, dtype=torch.bool)
    codes = made.fill(model, todo.long(), todo, noise_of([0, 1], levels))
    assert ((codes >= 0) & (codes < C)).all()
    assert model.levels == [level for level in range(levels) for _ in range(5)], "no more steps than tokens"


@BOTH
def test_a_level_takes_as_many_forwards_as_the_spec_says(sampler):
    model, todo = Model(random_logits(2, 3, 40)), torch.ones(2, 3, 40, dtype=torch.bool)
    todo[0, 2, 3:] = False
    todo[1, 2, 4:] = False
    sampler(sampler.Config(steps=(7, 1, 9)), space(3)).fill(model, todo.long(), todo, noise_of([0, 1], 3))
    assert [model.levels.count(level) for level in range(3)] == [7, 1, 4]


# ------------------------------------------------------------------------------------------------ configuration


@BOTH
def test_numbers_that_are_not_one_for_each_level_are_refused_by_name(sampler):
    assert sampler(sampler.Config(steps=(6,)), space(3)).steps == (6, 6, 6)
    for wrong in ((), (1, 2), (1, 2, 3, 4)):
        with pytest.raises(
            CombinationError, match=r"sampler.steps = .*; give 3, one for each level of the codec, or one"
        ):
            sampler(sampler.Config(steps=wrong), space(3))
    with pytest.raises(CombinationError, match=r"sampler.temperatures = \[1.0, 2.0\] has 2 numbers; give 3"):
        VampNet(VampNet.Config(temperatures=(1.0, 2.0)), space(3))


@pytest.mark.parametrize(
    ("sampler", "wrong"),
    [
        (VampNet, {"steps": (4, 0)}), (VampNet, {"temperatures": (-1.0,)}), (VampNet, {"temperatures": (math.inf,)}),
        (CausalBias, {"w_c": -0.1}), (CausalBias, {"w_s": -0.1}), (CausalBias, {"w_r": math.inf}),
        (CausalBias, {"steps": (0,)}), (CausalBias, {"temperature": -1.0}), (VampNet, {"top_k": 0}),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(sampler, wrong):
    with pytest.raises(ValueError, match="must be"):
        sampler.Config(**wrong)
