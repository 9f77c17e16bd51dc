"""The features of cocola and coherence are librosa's, window by window."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from scipy.ndimage import median_filter

from accomp.plugins.metrics.coherence.hpss_mels import (
    FLOOR,
    FRAMES,
    MELS,
    SAMPLE_RATE,
    WINDOW,
    features,
    masked,
    running_median,
    windows,
)


def tone(seconds: float, hertz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(np.float32)


def clicks(seconds: float, every: float = 0.5) -> np.ndarray:
    sound = np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)
    sound[:: round(every * SAMPLE_RATE)] = 0.9
    return sound


def test_features_are_what_librosa_computes():
    rng = np.random.default_rng(0)
    sound = tone(2.0) + clicks(2.0) + 0.01 * rng.standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    spectrum = librosa.stft(sound, n_fft=1024, hop_length=160, win_length=400, window="hann", center=True)
    parts = librosa.decompose.hpss(spectrum, kernel_size=31, power=2.0, margin=1.0)
    mels = [
        librosa.feature.melspectrogram(S=np.abs(part) ** 2, sr=16000, n_fft=1024, n_mels=64, fmin=60, fmax=7800)
        for part in parts
    ]
    expected = np.stack([librosa.power_to_db(mel, ref=np.max) for mel in mels])
    np.testing.assert_allclose(features(sound), expected, atol=1e-3)


def test_a_window_has_the_shape_that_the_published_network_was_trained_on():
    heard = features(tone(WINDOW / SAMPLE_RATE))
    assert heard.shape == (2, MELS, FRAMES) == (2, 64, 501)
    assert heard.max() == 0.0
    assert heard.min() >= FLOOR == -80.0


def test_what_lasts_is_in_the_first_part_and_what_strikes_in_the_second():
    quiet = 0.5 * FLOOR  # both parts are measured from their own maximum: in one of them what does not belong is low
    lasting, striking = features(tone(2.0) + clicks(2.0))
    band = np.abs(librosa.mel_frequencies(66, fmin=60, fmax=7800)[1:-1] - 440).argmin()
    between, high = 25, 55
    assert lasting[band, between] > -3
    assert striking[band, between] < quiet
    assert striking[high, 50] > striking[band, between] + 20
    assert lasting[high, 50] < lasting[band, 50] - 20


def test_loudness_is_lost():
    np.testing.assert_allclose(features(0.1 * tone(1.0)), features(tone(1.0)), atol=1e-2)


def test_silence_is_0_db_everywhere_which_is_why_it_has_to_be_gated():
    assert not features(np.zeros(SAMPLE_RATE)).any()


@pytest.mark.parametrize(("mode", "left"), [("both", [0, 1]), ("harmonic", [0]), ("percussive", [1])])
def test_a_masked_part_is_0_db_and_the_other_is_untouched(mode, left):
    heard = np.random.default_rng(0).uniform(FLOOR, 0, (3, 2, MELS, 7)).astype(np.float32)
    before = heard.copy()
    seen = masked(heard, mode)
    np.testing.assert_array_equal(heard, before)
    for part in range(2):
        np.testing.assert_array_equal(seen[:, part], heard[:, part] if part in left else 0.0)


@pytest.mark.parametrize(("rows", "length"), [(3, 501), (1, 31), (4, 20), (2, 3)])
def test_the_running_median_is_that_of_scipy_mirrored_at_the_ends(rows, length):
    values = np.random.default_rng(0).random((rows, length)).astype(np.float32)
    np.testing.assert_array_equal(running_median(values, 31), median_filter(values, size=(1, 31), mode="reflect"))


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(10, [0, 2.5, 5]), (5, [0]), (3, [0]), (7, [0, 2]), (11, [0, 2.5, 5, 6]), (12.5, [0, 2.5, 5, 7.5])],
)
def test_windows_follow_each_other_by_half_and_the_last_ends_with_the_sound(seconds, starts):
    sound = np.arange(round(seconds * SAMPLE_RATE))
    parts = windows(sound)
    assert parts[:, 0].tolist() == [start * SAMPLE_RATE for start in starts]
    assert parts[-1, -1] == sound[-1]
    assert parts.shape[1] == min(WINDOW, len(sound))
