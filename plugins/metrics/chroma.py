"""Chroma of the harmonic part of a sound; percussion is suppressed."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

RATE = 16_000
"""Sample rate (Hz)."""
WINDOW, HOP = 8192, 1600
"""Window and hop in samples: 0.5 s and 0.1 s."""
LOWEST, HIGHEST = 28, 88
"""Range of MIDI notes: 41 Hz to 1.3 kHz."""
WIDTH = 0.35
"""Width of a pitch class (semitones): a bin at this distance has weight 0.6."""
_LASTING, _BROAD = 7, 31  # median filter sizes in frames (harmonic) and bins (percussive)


def chroma(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """audio [N] at RATE -> chroma [n, 12], C first, and power of the harmonic part of each frame [n].

    Root magnitudes of an STFT under a soft mask of the harmonic part (harmonic-percussive separation by medians: D.
    Fitzgerald, DAFx 2010), summed by pitch class over octaves, at A4 = 440 Hz.
    """
    padded = np.pad(np.asarray(audio, dtype=np.float64), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    size = np.abs(np.fft.rfft(frames * np.hanning(WINDOW)))
    lasting, broad = median_filter(size, (_LASTING, 1)) ** 2, median_filter(size, (1, _BROAD)) ** 2
    pitch = 69 + 12 * np.log2(np.maximum(np.fft.rfftfreq(WINDOW, 1 / RATE), 1.0) / 440)
    chosen = (pitch >= LOWEST) & (pitch <= HIGHEST)
    kept = (size * lasting / (lasting + broad + 1e-12))[:, chosen]
    apart = (pitch[chosen] - np.arange(12)[:, None] + 6) % 12 - 6
    weights = np.exp(-0.5 * (apart / WIDTH) ** 2)
    return np.sqrt(kept) @ weights.T, np.square(kept).sum(axis=1)
