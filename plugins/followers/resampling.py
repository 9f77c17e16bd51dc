"""Streaming resampling to 44.1 kHz and framing. The result does not depend on block sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy.signal import resample_poly

RATE = 44_100
"""Output sample rate (Hz)."""
STEP = 441
"""Output samples in 10 ms."""


class Resampler:
    """Streaming resampler from `sample_rate` Hz to RATE, in blocks of a multiple of STEP samples.

    Every block is one matrix product of its samples and a margin on both sides with the polyphase filter of
    scipy.signal.resample_poly (Kaiser window, linear phase). Silence precedes the stream.
    """

    def __init__(self, sample_rate: int):
        self._taken = sample_rate // math.gcd(sample_rate, 100)  # input samples per block
        self._margin = 0 if sample_rate == RATE else 10 * max(1, -(-sample_rate // RATE)) + 2  # margin on either side
        self._matrix = None if sample_rate == RATE else self._filter(sample_rate)
        self.begin()

    def begin(self) -> None:
        """Start a new stream."""
        self._held = np.zeros(self._margin, np.float32)

    def push(self, audio: np.ndarray) -> list[np.ndarray]:
        """audio [n] float32 -> the blocks that are complete, each float32."""
        self._held = np.concatenate([self._held, audio])
        blocks, whole = [], self._taken + 2 * self._margin
        start = 0
        while start + whole <= len(self._held):
            block = self._held[start : start + whole]
            blocks.append(block if self._matrix is None else self._matrix @ block)
            start += self._taken
        self._held = self._held[start:]
        return blocks

    def _filter(self, sample_rate: int) -> np.ndarray:
        """Impulse responses [output samples of a block, input samples with margins]."""
        common = math.gcd(sample_rate, RATE)
        around = -(-self._margin // self._taken) * self._taken  # whole blocks, which keeps rows aligned
        alone = np.eye(self._taken + 2 * around)
        made = resample_poly(alone, RATE // common, sample_rate // common, axis=0)
        per_block = self._taken * RATE // sample_rate
        before = around * RATE // sample_rate
        columns = slice(around - self._margin, around + self._taken + self._margin)
        return np.ascontiguousarray(made[before : before + per_block, columns], np.float32)


class Frames:
    """Streaming framing of audio at `sample_rate` Hz: windows [size] at RATE, `step` apart, the first centred on 0."""

    def __init__(self, sample_rate: int, size: int, step: int):
        self._resampler, self._size, self._step = Resampler(sample_rate), size, step
        self.begin()

    def begin(self) -> None:
        """Start a new stream."""
        self._resampler.begin()
        self._held = np.zeros(self._size // 2, np.float32)  # start of the next window

    def push(self, audio: np.ndarray) -> Iterator[np.ndarray]:
        """audio [n] float32 -> iterator over the complete windows; exhaust it."""
        self._held = np.concatenate([self._held, *self._resampler.push(audio)])
        while len(self._held) >= self._size:
            yield self._held[: self._size]
            self._held = self._held[self._step :]
