"""What the shipped weights of magnitude do to sounds that anyone can judge: tones, glides, clicks, levels, silence."""

import numpy as np
import pytest
import torch

from accomp.plugins.tokenizers.magnitude import Magnitude

RATE, HOP = 32_000, 640
TIME = np.arange(3 * RATE) / RATE


@pytest.fixture(scope="module")
def codec() -> Magnitude:
    return Magnitude(Magnitude.Config())


def through(codec, sound: np.ndarray) -> np.ndarray:
    """As long as the sound, and complete to its end."""
    heard = np.pad(sound, (0, codec.space.delay)).astype(np.float32)
    return codec.decode(codec.encode(torch.from_numpy(heard)[None]))[0, : len(sound)].numpy()


def decibel(sound: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-20))


def envelope(sound: np.ndarray) -> np.ndarray:
    """Level of every 20 ms (dB)."""
    return np.array([decibel(part) for part in sound[: len(sound) // HOP * HOP].reshape(-1, HOP)])


@pytest.mark.parametrize("hertz", [110.0, 220.0, 440.0, 1000.0])
@pytest.mark.parametrize("peak", [-10.0, -30.0])
def test_a_steady_sine_is_steady_once_it_has_settled(codec, hertz, peak):
    level = envelope(through(codec, 10 ** (peak / 20) * np.sin(2 * np.pi * hertz * TIME)))[
        50:-4
    ]  # the end of the sound is heard a window early
    assert np.abs(level - level.mean()).max() < (1.4 if (hertz, peak) == (110.0, -10.0) else 1.2)


def test_a_glide_has_no_gaps(codec):
    sound = 0.3 * np.sin(2 * np.pi * 200 * (8 ** (TIME / 3) - 1) * 3 / np.log(8))
    assert np.abs(np.diff(envelope(through(codec, sound))[5:])).max() < 12


@pytest.mark.parametrize("place", [0, 80, 160, 240, 320, 400, 480, 560])
def test_an_impulse_stays_an_impulse_wherever_in_a_frame(codec, place):
    sound = np.zeros(RATE)
    at = RATE // 2 + place
    sound[at] = 0.8
    power = np.square(through(codec, sound))
    near = power[at - RATE // 200 : at + RATE // 200].sum()
    assert near > 0.7 * power.sum() > 0


def test_levels_forty_decibel_apart_come_back_forty_apart(codec):
    strings = sum(np.sin(2 * np.pi * 110 * 2 ** (n / 12) * TIME) / (n + 4) for n in (0, 7, 12, 16, 19))
    plucked = strings * np.exp(-3 * (TIME % 0.5))
    loud, soft = (decibel(through(codec, gain * plucked)) for gain in (0.5, 0.005))
    assert loud - soft == pytest.approx(40, abs=2.0)


def test_silence_stays_silent_before_and_after_sound(codec):
    sound = np.concatenate([np.zeros(RATE), 0.3 * np.sin(2 * np.pi * 220 * TIME), np.zeros(RATE)])
    decoded = through(codec, sound)
    assert decibel(decoded[: RATE - codec.space.delay]) < -80
    assert decibel(decoded[-RATE + RATE // 10 :]) < -80
