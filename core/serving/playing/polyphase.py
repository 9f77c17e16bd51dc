"""Resampling by a fixed ratio with a delay of one millisecond; soxr's streams of this quality hold back 5 to 40."""

from __future__ import annotations

import math

import numpy as np

HALF = 32
"""Half length of the filter in samples of the lower rate."""
CUTOFF = 0.92
"""Middle of the filter's edge, as a share of the lower rate's half; with BETA it falls from 0.85 (0 dB) to 0.99."""
BETA = 7.0
"""Of the Kaiser window: what aliases is 70 dB down."""
MOST_PHASES = 1024
"""Ratios of more phases take the nearest of so many."""


def reach(rate: int, to: int) -> int:
    """Return the samples of input after its place that an output sample depends on."""
    return math.ceil(HALF * max(1.0, rate / to))


class Polyphase:
    """Resamples mono audio piece by piece: sample n of the output lies at sample n * rate / to of the input.

    A windowed sinc, sampled at the phases of the ratio (J. O. Smith, Digital Audio Resampling):

        y[n] = sum_j h(j - f) x[i + j],   i + f = n rate / to,   -reach < j <= reach
    """

    def __init__(self, rate: int, to: int):
        common = math.gcd(rate, to)
        self._step, self._phases = rate // common, to // common  # output n is at input n * step / phases
        self._reach = reach(rate, to)
        self._rows = min(self._phases, MOST_PHASES)
        self._filter = _filter(self._rows, self._reach, CUTOFF * min(1.0, to / rate))
        self._kept = np.zeros(self._reach, np.float32)  # the latest input, and silence before the first
        self._begin = -self._reach  # number of its first sample
        self._made = 0

    def push(self, sound: np.ndarray) -> np.ndarray:
        """Resample audio [n] float32 -> the output that is ready [m] float32."""
        kept = np.concatenate([self._kept, sound.astype(np.float32, copy=False)])
        last = self._begin + len(kept) - 1 - self._reach  # the last input sample with all that it needs after it
        count = max(0, ((last + 1) * self._phases - 1) // self._step + 1 - self._made)
        at, phase = np.divmod((self._made + np.arange(count, dtype=np.int64)) * self._step, self._phases)
        rows = phase if self._rows == self._phases else np.rint(phase * (self._rows / self._phases)).astype(np.int64)
        out = np.zeros(0, np.float32)
        if count:
            windows = np.lib.stride_tricks.sliding_window_view(kept, 2 * self._reach)
            out = np.einsum("nj,nj->n", windows[at - self._begin - self._reach + 1], self._filter[rows])
        self._made += count
        first = self._made * self._step // self._phases - self._reach + 1  # that the next output needs
        drop = min(len(kept), max(0, first - self._begin))
        self._kept, self._begin = kept[drop:], self._begin + drop
        return out


def _filter(rows: int, reach: int, cutoff: float) -> np.ndarray:
    """Return the filter [rows + 1, 2 reach] float32, each row with a gain of 1 at 0 Hz."""
    place = np.arange(-reach + 1, reach + 1) - np.arange(rows + 1)[:, None] / rows
    inside = np.sqrt(np.clip(1 - (place / reach) ** 2, 0, None))
    taps = np.sinc(cutoff * place) * np.i0(BETA * inside)
    return (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
