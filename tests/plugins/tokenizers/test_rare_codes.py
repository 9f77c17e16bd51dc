"""Codes that music hardly uses move onto tones: which do, what they stand for then, and that all else stays."""

import copy
import re

import pytest
import torch
from test_magnitude_training import trainer

from accomp.core.errors import SpecError
from accomp.plugins.tokenizers.codec.music.tones import tones
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.codec.training.magnitude.rare_codes import SHARES, RareCodesTrainer
from accomp.plugins.tokenizers.codec.training.magnitude.trainers import trainer_of

RARE = 0.02


class Hum:
    """Music of a kind: noise, at random levels."""

    def draw(self, n, seconds, rate, rng, skip):
        return torch.randn(n, round(seconds * rate), generator=rng) * 10 ** (-2 * torch.rand(n, 1, generator=rng))


def fitted() -> tuple[RareCodesTrainer, torch.nn.Module, torch.Tensor, dict[str, float]]:
    """The trainer after its step, the network before it, the latents of the music that it drew, and its figures."""
    plain = trainer(only="decoder", start="default", fit_frames=1500)
    plain.clips = Hum()
    plain._fit()
    spec = trainer(only="rare_codes", start="default", rare=RARE, fit_frames=1500, steps=1).spec
    one = trainer_of(plain.network, spec, Hum(), 3, torch.device("cpu"))
    before, drawn, latents = copy.deepcopy(one.network), [], one.latents
    one.latents = lambda *how: drawn.append(latents(*how)) or drawn[-1]
    (told,) = one.steps()
    return one, before, drawn[0], told


def error(network, z):
    """Mean square of what the first level leaves of latents [n, E]."""
    level = network.quantizer.levels[0]
    return level.rest(z, level.nearest(z)).square().mean()


def test_codes_of_the_first_level_that_music_hardly_uses_move_and_nothing_else():
    one, before, music, told = fitted()
    assert isinstance(one, RareCodesTrainer)
    level, was = one.network.quantizer.levels[0], before.quantizer.levels[0]
    rare = torch.bincount(was.nearest(music), minlength=16) < RARE * len(music)
    assert 0 < rare.sum() < 16
    assert torch.equal((level.codebook != was.codebook).any(1), rare)
    assert told["rare_codes"] == rare.sum()
    assert told["music_on_them"] == pytest.approx(float(rare[level.nearest(music)].float().mean()), abs=1e-6)
    after, earlier = one.network.state_dict(), before.state_dict()
    stays = [name for name in earlier if name != "quantizer.quantizers.0.codebook"]
    assert all(torch.equal(after[name], earlier[name]) for name in stays)
    assert one.finish() == []


def test_tones_lie_nearer_to_codes_then_and_music_hardly_farther():
    one, before, music, _ = fitted()
    clips = tones(60, 6400, 32_000, torch.Generator().manual_seed(9), SHARES)
    made = before.encode(clips, History()).flatten(0, 1)
    assert error(one.network, made) < 0.9 * error(before, made)
    assert error(one.network, music) < 1.2 * error(before, music)


def test_a_long_fit_says_how_far_it_is():
    one, notes = trainer(only="rare_codes", start="default", rare=0.0, fit_frames=100), []
    one.note = notes.append
    one.learn(0.0)
    have = [int(re.fullmatch(r"frames to fit to: (\d+) of 100", note)[1]) for note in notes]
    assert have[0] < 100 <= max(have)


def test_where_no_code_is_rare_none_moves():
    one = trainer(only="rare_codes", start="default", rare=0.0, fit_frames=100)
    before = copy.deepcopy(one.network.state_dict())
    assert one.learn(0.0)["rare_codes"] == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.network.state_dict().items())


def test_too_few_frames_to_know_what_is_rare_are_refused():
    with pytest.raises(SpecError, match=r"fit_frames = 100: too few .* expected at least 1500 @ train\.fit_frames"):
        trainer(only="rare_codes", start="default", rare=RARE, fit_frames=100)
