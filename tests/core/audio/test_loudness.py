"""Levels and loudness: equal to the published measures, and sane where there is nothing to measure."""

import os
from pathlib import Path

import numpy as np
import pytest

from accomp.core.audio.loudness import (
    FLOOR_DB,
    PEAK,
    a_weighted_level,
    a_weighting,
    loudness,
    mix_for_listening,
    nonsilent,
    normalise,
)

RATE = 32000
FIXTURES = Path(os.environ.get("ACCOMP_FIXTURES", Path(__file__).parents[4] / "shared" / "fixtures"))


@pytest.fixture
def fixture():
    def load(name: str):
        path = FIXTURES / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"no reference numbers; set ACCOMP_FIXTURES to the folder that holds {path.name}")
        return np.load(path)

    return load


def noise(seconds: float, level: float = 0.1, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).uniform(-level, level, round(seconds * rate))


@pytest.mark.parametrize("rate", [16000, 44100])
def test_levels_equal_the_reference(fixture, rate):
    numbers = fixture("rms_silence")
    level = a_weighted_level(numbers[f"audio_{rate}"], rate)
    assert np.abs(level - numbers[f"rms_db_{rate}"]).max() < 1e-3
    np.testing.assert_array_equal(nonsilent(level), numbers[f"nonsilent_{rate}"])


def test_a_weighting_is_that_of_the_standard():
    table = {1.5: -39.4, 2.0: -19.1, 2.7: -3.2, 3.0: 0.0, 3.3: 1.2, 3.6: 1.0, 3.9: -1.1, 4.2: -6.6}
    for exponent, db in table.items():  # IEC 61672-1, table 3: exact frequencies are powers of ten
        assert a_weighting(np.array([10**exponent]))[0] == pytest.approx(db, abs=0.06)
    assert a_weighting(np.array([0.0]))[0] == -80.0


@pytest.mark.parametrize(("frequency", "amplitude"), [(1000, 0.5), (300, 0.5), (4000, 0.01)])
def test_level_of_a_sine_is_its_power_and_weight(frequency, amplitude):
    sine = amplitude * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    window = 10 * np.log10(3 / 8)  # power of a Hann window
    expected = 10 * np.log10(amplitude**2 / 2) + a_weighting(np.array([frequency]))[0] + window
    assert a_weighted_level(sine, RATE)[2:-2] == pytest.approx(expected, abs=0.1)


def test_level_has_a_value_a_hop_and_one_more():
    for n in (0, 1, 639, 640, 641, 64000):
        assert len(a_weighted_level(np.zeros(n), RATE)) == n // 640 + 1
    assert len(a_weighted_level(np.zeros(9600), 24000, hop=320)) == 31
    assert (a_weighted_level(np.zeros(1000), RATE) == FLOOR_DB).all()


def test_level_does_not_depend_on_how_it_is_cut_into_blocks():
    audio = noise(100)  # more frames than are transformed at once
    level = a_weighted_level(audio, RATE)
    part = a_weighted_level(audio[80 * RATE :], RATE)
    np.testing.assert_allclose(level[80 * 50 + 2 :], part[2:], atol=1e-4)


def test_silence_is_where_nothing_sounds():
    audio = noise(3)
    audio[RATE : 2 * RATE] = 0
    sounding = nonsilent(a_weighted_level(audio, RATE))
    assert sounding[:49].all()
    assert not sounding[52:98].any()
    assert sounding[102:150].all()
    np.testing.assert_array_equal(nonsilent(np.array([-60.0, -59.9])), [False, True])


def test_loudness_equals_the_reference(fixture):
    numbers = fixture("loudness_mix")
    for name, lufs in zip(("mix", "pred", "mix_norm", "pred_norm", "mixed_n3"), numbers["lufs"], strict=True):
        assert loudness(numbers[name], RATE) == pytest.approx(lufs, abs=1e-6)
    np.testing.assert_allclose(normalise(numbers["mix"], RATE), numbers["mix_norm"], atol=1e-9)
    mixed = mix_for_listening(numbers["mix"], numbers["pred"], RATE, stems=3)
    np.testing.assert_allclose(mixed, numbers["mixed_n3"], atol=1e-9)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("seconds", [0.4, 3.37, 20.0])
def test_loudness_equals_pyloudnorm(rate, seconds):
    pyloudnorm = pytest.importorskip("pyloudnorm")
    audio = noise(seconds, 0.3, rate) * np.linspace(0, 1, round(seconds * rate)) ** 4  # parts of it are gated
    assert loudness(audio, rate) == pytest.approx(pyloudnorm.Meter(rate).integrated_loudness(audio), abs=1e-6)


def test_loudness_of_a_full_scale_sine_is_that_of_the_standard():
    sine = np.sin(2 * np.pi * 997 * np.arange(5 * 48000) / 48000)
    assert loudness(sine, 48000) == pytest.approx(-3.01, abs=0.1)  # ITU-R BS.1770-4


def test_a_silent_clip_stays_silent():
    for audio in (np.zeros(RATE), np.zeros(0), np.zeros(10, dtype=np.float32), noise(1, 1e-7)):
        assert loudness(audio, RATE) == -np.inf
        np.testing.assert_array_equal(normalise(audio, RATE), audio)
    stem = noise(1)
    np.testing.assert_allclose(mix_for_listening(np.zeros(RATE), stem, RATE, stems=1), normalise(stem, RATE))
    np.testing.assert_allclose(mix_for_listening(stem, np.zeros(RATE), RATE, stems=1), normalise(stem, RATE))
    assert not mix_for_listening(np.zeros(RATE), np.zeros(RATE), RATE, stems=2).any()


def test_normalised_audio_has_the_loudness_or_the_peak():
    assert loudness(normalise(noise(2, 0.01), RATE, -23.0), RATE) == pytest.approx(-23.0, abs=1e-6)
    clicks = np.zeros(4 * RATE, dtype=np.float32)
    clicks[::8000] = 0.5
    loud = normalise(clicks, RATE)
    assert np.abs(loud).max() == pytest.approx(PEAK, abs=1e-6)
    assert loud.dtype == np.float32
    assert clicks.max() == 0.5, "the input is not changed"


@pytest.mark.parametrize("stems", [1, 4])
def test_the_stem_stands_above_each_input_stem(stems):
    context, stem = noise(3), np.sin(np.arange(3 * RATE) / 9) * 0.01
    mix = mix_for_listening(context, stem, RATE, stems=stems, above_db=5.0)
    (a, b), *_ = np.linalg.lstsq(np.stack([context, stem], axis=1), mix, rcond=None)
    heard = loudness(b * stem, RATE) - loudness(a * context, RATE)
    assert heard == pytest.approx(5 - 10 * np.log10(stems), abs=1e-6)
    assert loudness(mix, RATE) == pytest.approx(-18, abs=1e-6)


def test_mixing_refuses_what_does_not_belong_together():
    with pytest.raises(ValueError, match=r"\(10,\).*\(11,\)"):
        mix_for_listening(np.zeros(10), np.zeros(11), RATE, stems=1)
    with pytest.raises(ValueError, match="stems=0"):
        mix_for_listening(np.zeros(10), np.zeros(10), RATE, stems=0)
