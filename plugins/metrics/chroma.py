"""Chroma: how much of each pitch class sounds, frame by frame, with drums left out as far as their sound tells them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

RATE = 16_000
"""Hz of the sound."""
WINDOW, HOP = 8192, 1600
"""Samples: 0.5 s, every 0.1 s."""
LOWEST, HIGHEST = 28, 88
"""MIDI notes between which pitches count: 41 Hz to 1.3 kHz."""
WIDTH = 0.35
"""Semitones: how far from a pitch class a bin may lie to count 0.6 for it."""
_LASTING, _BROAD = 7, 31  # frames and bins of the medians that tell partials from strokes


def chroma(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """audio [N] at RATE -> chroma [n, 12], C first, and how loud each frame's pitched part is (a power) [n].

    Root magnitudes of an STFT, of which a soft mask keeps what lasts (harmonic-percussive separation by medians: D.
    Fitzgerald, DAFx 2010), added up by pitch class over octaves, at A4 = 440 Hz.
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
