"""What COCOLA's encoder hears (arXiv 2404.16969): mel spectrograms of the harmonic and of the percussive part.

The numbers are librosa's to the last digit that matters; the medians are taken faster than `librosa.decompose.hpss`
takes them, which is nearly all of its time.
"""

from __future__ import annotations

import librosa
import numpy as np
from scipy.ndimage import median_filter

SAMPLE_RATE = 16000
WINDOW = 5 * SAMPLE_RATE
"""Samples that are judged at once."""
STEP = WINDOW // 2
"""Samples from one window to the next."""
MELS = 64
HOP = 160
FRAMES = WINDOW // HOP + 1
FLOOR = -80.0
"""dB below a part's own loudest place at which it ends."""
MODES = ("both", "harmonic", "percussive")
"""Which parts are listened to."""
UNHEARD = {"harmonic": 1, "percussive": 0}
"""The part that is masked."""
RECIPE = 1
"""Raised whenever the same sound would give other features."""
_FFT, _LENGTH, _KERNEL = 1024, 400, 31


def features(window: np.ndarray) -> np.ndarray:
    """window [N] at SAMPLE_RATE -> [2, MELS, N // HOP + 1] float32: harmonic and percussive part, dB in [FLOOR, 0].

    Each part is measured from its own maximum, so loudness is lost; a part without any sound is 0 dB everywhere.
    """
    return below_own_maximum(decibels(window))


def decibels(audio: np.ndarray) -> np.ndarray:
    """audio [N] at SAMPLE_RATE -> mel levels [2, MELS, N // HOP + 1] float32 (dB, -100 at least), not yet relative."""
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
    """levels [2, MELS, T] (dB) -> the same below each part's maximum, in [FLOOR, 0]."""
    levels = levels.astype(np.float32)
    return np.maximum(levels - levels.max(axis=(1, 2), keepdims=True), FLOOR)


def windows(audio: np.ndarray) -> np.ndarray:
    """audio [N] -> [W, min(N, WINDOW)]: a window each STEP, and where that leaves a rest one that ends with the audio.

    Audio shorter than a window is one window of its own length.
    """
    if len(audio) <= WINDOW:
        return audio[None]
    last = len(audio) - WINDOW
    return np.stack([audio[start : start + WINDOW] for start in [*range(0, last, STEP), last]])


def running_median(rows: np.ndarray, size: int) -> np.ndarray:
    """rows [R, T] -> the median of `size` (odd) neighbours along T, mirrored at the ends (the edge value twice).

    All rows are laid end to end, because scipy has a much faster median for one dimension than for two.
    """
    half = size // 2
    padded = np.pad(rows, ((0, 0), (half, half)), mode="symmetric")
    return median_filter(padded.ravel(), size=size).reshape(padded.shape)[:, half : half + rows.shape[1]]


def masked(heard: np.ndarray, mode: str) -> np.ndarray:
    """heard [..., 2, MELS, T] (dB) with the part alone that `mode` names: the other is 0 dB, as if without sound."""
    if mode in UNHEARD:
        heard = heard.copy()
        heard[..., UNHEARD[mode], :, :] = 0.0
    return heard
