"""Sounds made by formula: what they are, and how many of a step's clips are such."""

import numpy as np
import pytest
import torch

from accomp.plugins.tokenizers.codec.music import tones as made
from accomp.plugins.tokenizers.codec.music.tones import LEVELS, SHARES, WithTones, tones

RATE = 32_000
NOTES = 1.0, 0.0, 0.0, 0.0, 0.0
"""Shares of the kinds: notes alone."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_peaks_lie_in_their_range_and_the_seed_decides():
    clips = tones(48, 8000, RATE, generator())
    assert clips.shape == (48, 8000)
    assert clips.dtype == torch.float32
    assert clips.isfinite().all()
    peaks = clips.abs().amax(1)
    sounding = peaks > 0  # a note may begin after the clip's end
    assert sounding.float().mean() > 0.7
    decibel = 20 * peaks[sounding].log10()
    assert (decibel <= LEVELS[1] + 1e-3).all()
    assert (decibel >= LEVELS[0] - 1e-3).all()
    assert decibel.std() > 8
    assert torch.equal(clips, tones(48, 8000, RATE, generator()))
    assert not torch.equal(clips, tones(48, 8000, RATE, generator(1)))


def test_half_of_the_notes_are_those_of_equal_temperament(monkeypatch):
    monkeypatch.setattr(made, "NOTES", 1)
    monkeypatch.setattr(made, "PARTIALS", 1)
    length = 2 * RATE
    off = []
    for clip in tones(60, length, RATE, generator(3), NOTES).numpy():
        spectrum = np.abs(np.fft.rfft(clip * np.hanning(length), 4 * length))
        semitones = 69 + 12 * np.log2(max(spectrum.argmax(), 1) * RATE / (4 * length) / 440)
        assert made.LOWEST - 1 < semitones < made.HIGHEST + 1 or spectrum.max() < 1e-3
        off.append(abs(semitones - round(semitones)))
    assert 0.35 < np.mean(np.array(off) < 0.02) < 0.75


def test_partials_are_multiples_of_their_note(monkeypatch):
    monkeypatch.setattr(made, "NOTES", 1)
    monkeypatch.setattr(made, "LOWEST", 69)
    monkeypatch.setattr(made, "HIGHEST", 69)
    window, rng = np.hanning(RATE), generator(5)
    clips = tones(40, RATE, RATE, rng, NOTES)
    for clip in clips[clips[:, :640].abs().amax(1) > 0].numpy():  # those that begin before: no onset blurs the lines
        power = np.abs(np.fft.rfft(clip * window)) ** 2
        near = np.zeros(len(power), bool)
        for h in range(1, made.PARTIALS + 1):
            low, high = 440 * h * 2 ** (-0.9 / 12), 440 * h * 2 ** (0.9 / 12)
            near[int(low) - 20 : int(high) + 20] = True
        assert power[near].sum() >= 0.97 * power.sum()


@pytest.mark.parametrize("kind", range(len(SHARES)))
def test_every_kind_sounds_and_stays_below_half_the_rate(kind):
    clips = tones(32, 16_000, RATE, generator(), [float(i == kind) for i in range(len(SHARES))])
    assert (clips.abs().amax(1) > 1e-3).float().mean() > 0.6
    if kind == 0:
        power = torch.fft.rfft(clips * torch.hann_window(16_000)).abs().square()
        assert power[:, -300:].sum() < 1e-5 * power.sum()  # nothing folded back at the top


class Silence:
    """Music that tells how many clips it gave."""

    def __init__(self):
        self.given = 0

    def draw(self, n, seconds, rate, rng, skip):
        self.given += n
        return torch.zeros(n, round(seconds * rate))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_clips_is_what_was_asked(share):
    music, rng = Silence(), generator()
    for _ in range(200):
        clips = WithTones(music, share).draw(4, 0.02, RATE, rng, lambda path, why: None)
        assert clips.shape == (4, 640)
    assert abs(1 - music.given / 800 - share) < 0.06


def test_a_lone_sine_is_one_line_wherever_it_lies():
    length = RATE // 2
    clips = tones(60, length, RATE, generator(7), (0.0, 0.0, 0.0, 0.0, 1.0))
    window, centres = torch.hann_window(length), []
    for clip in clips[clips[:, :640].abs().amax(1) > 0]:  # those that begin before: no onset blurs the line
        power = torch.fft.rfft(clip * window).abs().square()
        peak = int(power.argmax())
        spread = 4 + round(0.06 * peak)  # some sway by up to 3 % either way
        assert power[max(0, peak - spread) : peak + spread + 1].sum() > 0.99 * power.sum()
        centres.append(2 * peak)
    low, high = made.LONE
    assert len(centres) > 15
    assert low * 0.9 < min(centres) < 300
    assert 2000 < max(centres) < high * 1.1
