"""Features of COCOLA's encoder (arXiv 2404.16969): mel spectrograms of the harmonic and of the percussive part.

The values equal those of librosa within rounding. The medians, which take most of the time of `librosa.decompose.hpss`,
are computed faster.
"""

from __future__ import annotations

import librosa
import numpy as np
from scipy.ndimage import median_filter

SAMPLE_RATE = 16000
WINDOW = 5 * SAMPLE_RATE
"""Window length (samples)."""
STEP = WINDOW // 2
"""Hop between windows (samples)."""
MELS = 64
HOP = 160
FRAMES = WINDOW // HOP + 1
FLOOR = -80.0
"""Floor (dB) relative to the maximum of each part."""
MODES = ("both", "harmonic", "percussive")
"""Parts that are scored."""
UNHEARD = {"harmonic": 1, "percussive": 0}
"""The part that is masked."""
RECIPE = 1
"""Version; increase it with every change of the features."""
_FFT, _LENGTH, _KERNEL = 1024, 400, 31


def features(window: np.ndarray) -> np.ndarray:
    """window [N] at SAMPLE_RATE -> [2, MELS, N // HOP + 1] float32: harmonic and percussive part, dB in [FLOOR, 0].

    Each part is relative to its own maximum, so the level is lost; a silent part is 0 dB everywhere.
    """
    return below_own_maximum(decibels(window))


def decibels(audio: np.ndarray) -> np.ndarray:
    """audio [N] at SAMPLE_RATE -> absolute mel levels [2, MELS, N // HOP + 1] float32 (dB, at least -100)."""
    spectrum = librosa.stft(
        np.asarray(audio, dtype=np.float32), n_fft=_FFT, hop_length=HOP, win_length=_LENGTH, window="hann", center=True
    )
    magnitude = np.abs(spectrum)
    harmonic, percussive = running_median(magnitude, _KERNEL), running_median(magnitude.T, _KERNEL).T
    shares = (
        librosa.util.softmask(harmonic, percussive, power=2.0, split_zeros=True),
        librosa.util.softmask(percussive, harmonic, power=2.0, split_zeros=True),
    )
    bank = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=_FFT, n_mels=MELS, fmin=60.0, fmax=7800.0)
    power = np.stack([bank @ (magnitude * share) ** 2 for share in shares])
    return (10.0 * np.log10(np.maximum(power, 1e-10))).astype(np.float32)


def below_own_maximum(levels: np.ndarray) -> np.ndarray:
    """levels [2, MELS, T] (dB) -> levels relative to each part's maximum, in [FLOOR, 0]."""
    levels = levels.astype(np.float32)
    return np.maximum(levels - levels.max(axis=(1, 2), keepdims=True), FLOOR)


def windows(audio: np.ndarray) -> np.ndarray:
    """audio [N] -> windows [W, min(N, WINDOW)], STEP apart; a last window ends with the audio if a rest remains.

    Audio shorter than a window is one window of its own length.
    """
    if len(audio) <= WINDOW:
        return audio[None]
    last = len(audio) - WINDOW
    return np.stack([audio[start : start + WINDOW] for start in [*range(0, last, STEP), last]])


def running_median(rows: np.ndarray, size: int) -> np.ndarray:
    """rows [R, T] -> median of `size` (odd) neighbours along T, mirrored at the ends (the edge value twice).

    Rows are concatenated, because scipy's one-dimensional median is much faster than the two-dimensional one.
    """
    half = size // 2
    padded = np.pad(rows, ((0, 0), (half, half)), mode="symmetric")
    return median_filter(padded.ravel(), size=size).reshape(padded.shape)[:, half : half + rows.shape[1]]


def masked(heard: np.ndarray, mode: str) -> np.ndarray:
    """heard [..., 2, MELS, T] (dB) with only the part `mode`: the other is 0 dB, like silence."""
    if mode in UNHEARD:
        heard = heard.copy()
        heard[..., UNHEARD[mode], :, :] = 0.0
    return heard
