"""How far off pitch the shipped weights of magnitude play lone tones, and that true frequencies would mend it."""

import numpy as np
import pytest
import torch

from accomp.plugins.tokenizers.codec.networks.magnitude_network import DELAY, STEP, WINDOW, magnitudes_of
from accomp.plugins.tokenizers.codec.networks.tuner import by_slopes, true_tuning
from accomp.plugins.tokenizers.codec.phase import phase_rule
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.magnitude import Magnitude

RATE, LENGTH = 32_000, 16_384
LOW = (55.0, 58.3, 69.3, 77.8, 87.3, 98.0, 103.8, 110.0)
HIGH = (220.0, 246.9, 277.2, 329.6, 392.0, 493.9, 622.3, 880.0)


@pytest.fixture(scope="module")
def codec() -> Magnitude:
    return Magnitude(Magnitude.Config())


def rich(hertz: tuple[float, ...]) -> torch.Tensor:
    """A second of each tone [n, N], of 12 partials that fall by 6 dB an octave."""
    time, rng = torch.arange(50 * 640) / RATE, torch.Generator().manual_seed(2)
    sound = torch.zeros(len(hertz), len(time))
    for h in range(1, 13):
        phase = torch.rand(len(hertz), 1, generator=rng)
        sound += torch.sin(2 * torch.pi * (torch.tensor(hertz)[:, None] * h * time + phase)) / h
    return 0.1 * sound


def off(sound: torch.Tensor, hertz: tuple[float, ...]) -> np.ndarray:
    """Cents [n], up to 150, by which the sum of 12 harmonics' magnitudes is greatest away from each tone's pitch."""
    cents = np.arange(-150, 151)
    found = []
    for row, f in zip(sound.numpy(), hertz, strict=True):
        spectrum = np.abs(np.fft.rfft(row[8000 : 8000 + LENGTH] * np.hanning(LENGTH), 8 * LENGTH))
        places = f * 2 ** (cents / 1200) * 8 * LENGTH / RATE
        total = sum(np.interp(places * h, np.arange(len(spectrum)), spectrum) for h in range(1, 13))
        found.append(abs(cents[total.argmax()]))
    return np.array(found)


def test_the_measure_is_right():
    assert off(rich(LOW), LOW).max() <= 1
    assert np.abs(off(rich(tuple(f * 2 ** (40 / 1200) for f in LOW)), LOW) - 40).max() <= 1


def test_tones_are_as_far_off_as_the_page_says(codec):
    """None of this is good; it must not get worse."""
    high, low = (off(codec.decode(codec.encode(rich(hertz))), hertz) for hertz in (HIGH, LOW))
    assert np.median(high) < 30
    assert np.median(low) < 120


@pytest.mark.parametrize("hertz", [LOW, HIGH], ids=["low", "high"])
def test_coded_magnitudes_are_in_tune_where_frequencies_are_known(codec, hertz):
    """What is wrong with pitch is what is known of frequencies, not the magnitudes, the rule or its rounds."""
    sound = rich(hertz)
    logs, _ = codec.network.decode_in_tune(codec.embed(codec.encode(sound)), History())
    said = magnitudes_of(logs).flatten(1, 2)
    true, _ = true_tuning(sound.double(), WINDOW, STEP)
    rule = phase_rule("peaks", window=WINDOW, hop=STEP, rounds=2)
    state = rule.begin(len(sound))
    told = torch.cat([rule(said, state, true - by_slopes(said)), rule.flush(state)], dim=1)[:, DELAY:]
    assert np.quantile(off(told, hertz), 0.9) < 5
