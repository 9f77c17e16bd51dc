"""What a codec is measured by: distances against plain arithmetic, intervals, counts, and silence told from sound."""

import math

import numpy as np
import pytest
import torch
from dac.nn.loss import SISDRLoss

from accomp.core.types import TokenSpace
from accomp.plugins.tokenizers.codec.quality.distances import LIMIT_DB, LiteratureDistance, level_db, si_sdr
from accomp.plugins.tokenizers.codec.quality.intervals import codes_used, entropy, figure, mean, perplexity, ratio
from accomp.plugins.tokenizers.codec.quality.measures import CodecScorer, figures, measure, nominal_bitrate, silence_db

RATE = 32_000


def noise(n: int = RATE, seed: int = 0, gain: float = 0.1) -> torch.Tensor:
    return gain * torch.randn(n, generator=torch.Generator().manual_seed(seed))


class Gain:
    """A codec that turns everything by a gain; frame i of level q has code (i * (q + 1)) % C."""

    space = TokenSpace(RATE, 640, 2, 8, 4)
    name, fingerprint = "gain", "0"

    def __init__(self, gain: float = 1.0, hum: float = 0.0):
        self.gain, self.hum = gain, hum

    def encode(self, audio):
        self.audio = audio
        frames = torch.arange(-(-audio.shape[1] // 640))
        return torch.stack([frames % 8, 2 * frames % 8])[None]

    def decode(self, codes):
        return self.gain * self.audio + self.hum


def windows(sound: np.ndarray, size: int) -> np.ndarray:
    """|STFT| [bins, frames]: Hann, hop size / 4, mirrored at the ends."""
    padded = np.pad(sound, size // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    frames = [padded[i : i + size] * hann for i in range(0, len(padded) - size + 1, size // 4)]
    return np.abs(np.fft.rfft(frames, axis=1)).T


def test_stft_distance_is_its_formula():
    x, y = noise(8000).double().numpy(), noise(8000, seed=1).double().numpy()
    expected = 0.0
    for size in (2048, 512):
        a, b = windows(y, size), windows(x, size)
        logs = [np.log10(np.maximum(s, 1e-5) ** 2) for s in (a, b)]
        expected += np.abs(logs[0] - logs[1]).mean() + np.abs(a - b).mean()
    got = LiteratureDistance(RATE)(torch.from_numpy(y), torch.from_numpy(x))
    assert got["stft"] == pytest.approx(expected, rel=1e-3)


def test_mel_distance_is_a_sum_over_seven_windows_of_log_magnitudes():
    distance, x = LiteratureDistance(RATE), noise(8000)
    assert distance(x, x) == {"mel": 0.0, "stft": 0.0}
    # half the level is log10 2 in every band of every window; magnitudes, not powers
    assert distance(0.5 * x, x)["mel"] == pytest.approx(7 * math.log10(2), rel=1e-3)


def test_si_sdr_agrees_with_the_dac_packages_and_ignores_the_level():
    x, y = noise(), noise() + noise(seed=1, gain=0.03)
    assert si_sdr(y, x) == pytest.approx(-float(SISDRLoss()(x[None, None], y[None, None])), abs=1e-3)
    assert si_sdr(y, x) == pytest.approx(20 * math.log10(0.1 / 0.03), abs=0.2)
    assert si_sdr(0.2 * y + 0.5, x) == pytest.approx(si_sdr(y, x), abs=1e-3)
    assert si_sdr(torch.roll(x, 640), x) < -20


def test_si_sdr_of_silence_and_of_perfect_copies_is_no_nan():
    x = noise()
    assert si_sdr(x, x) == LIMIT_DB
    assert si_sdr(torch.zeros_like(x), x) == -LIMIT_DB
    assert si_sdr(x, torch.zeros_like(x)) is None
    assert si_sdr(x, 1e-6 * x) is None
    assert level_db(torch.zeros(8)) == -200
    assert level_db(torch.full((8,), 0.1)) == pytest.approx(-20)


def test_silent_originals_are_counted_out_of_si_sdr_alone():
    judge = CodecScorer(Gain(0.5))
    judged = [judge(sound)[0] for sound in (noise(), torch.zeros(RATE), noise(seed=1))]
    found = figures(judged, Gain.space)
    assert (found["mel"].n, found["si_sdr_db"].n) == (3, 2)
    assert all(math.isfinite(one.value) for one in found.values())
    only_silence = figures([judged[1]], Gain.space)
    assert "si_sdr_db" not in only_silence
    assert only_silence["mel"].low is None


def test_use_perplexity_and_bit_rates_are_those_of_the_codes():
    judged = [CodecScorer(Gain())(noise(8 * 640 * 2, seed=i))[0] for i in range(3)]
    found = figures(judged, Gain.space)
    assert (found["codes_used_1"].value, found["codes_used_2"].value) == (8, 4)
    assert found["perplexity_1"].value == pytest.approx(8)
    assert found["perplexity_2"].value == pytest.approx(4)
    assert found["bitrate_entropy"].value == pytest.approx(50 * (3 + 2))
    assert nominal_bitrate(Gain()) == 50 * 2 * 3
    assert judged[0].codes.shape == (2, 16)
    assert found["entropy_2"].value == pytest.approx(math.log(4))


def test_level_and_silence():
    numbers = measure(Gain(0.5), [noise(), noise(seed=1, gain=0.01)])
    assert numbers["rms_ratio"] == pytest.approx(0.5)
    assert numbers["level_db"] == pytest.approx(20 * math.log10(0.5))
    assert numbers["si_sdr_db"] == LIMIT_DB
    assert numbers["silence_db"] == -200
    assert silence_db(Gain(hum=0.001)) == pytest.approx(-60)
    assert silence_db(Gain(), before=noise()) == -200


def test_what_is_not_complete_at_the_end_is_left_out():
    class Late(Gain):
        space = TokenSpace(RATE, 640, 2, 8, 4, delay=1000)

        def decode(self, codes):
            cut = self.audio.clone()
            cut[:, -1000:] = 1.0
            return cut

    judged, decoded = CodecScorer(Late())(noise())
    assert judged.numbers["mel"] == 0
    assert judged.energies[0] == judged.energies[1]
    assert decoded[-1] == 1


def test_the_interval_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    found = figure(mean(values), len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert found.low < found.value < found.high
    assert figure(mean(values), len(values)) == found


def test_a_ratio_is_drawn_together():
    below = np.random.default_rng(1).uniform(1, 9, 40)
    found = figure(ratio(3 * below, below), 40)
    assert (found.low, found.high) == (pytest.approx(3.0), pytest.approx(3.0))


def test_intervals_of_code_counts_hold_the_count_itself():
    rng = np.random.default_rng(0)
    counts = np.stack([np.bincount(rng.integers(0, 300, 40), minlength=300) for _ in range(12)])
    for estimate in (codes_used(counts), perplexity(counts), entropy(counts)):
        found = figure(estimate, 12, pooled=True)
        assert found.low < found.value < found.high
        assert figure(estimate, 12).high < found.value  # percentiles of draws would not
    assert codes_used(counts)(np.ones((1, 12)))[0] == (counts.sum(0) > 0).sum()


def test_too_short_an_excerpt_is_an_error():
    with pytest.raises(ValueError, match=r"'a' has 4000 samples; need 4096 or more"):
        CodecScorer(Gain())(noise(4000), "a")
    with pytest.raises(ValueError, match="need at least one excerpt"):
        measure(Gain(), [])
