"""Where the windows of a magnitude spectrogram lie, how they overlap, and how their phases follow from magnitudes."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import attrs
import numpy as np

SILENT = 1e-6
"""Of a full-scale sine's magnitude: a bin at or under it is silent, and gets no sound at all."""
TINY = 1e-12
"""A transform of that size has no phase: it counts as 0."""
SHORTEST = 128
"""Samples of the shortest window: an eighth of its pairs of samples fills a vector (see fourier.py)."""
LEAST = 1e-2
"""Of the largest sum of squared windows: by less than this no sound is divided."""

Array = np.ndarray[Any, Any]


@attrs.frozen(slots=False)
class Framing:
    """Frame n covers samples [n * hop - delay, (n + 1) * hop): it ends with the newest sample that it may depend on.

    Windows are periodic Hann windows of `window` samples. A phase is that of a window whose middle is time 0. Raises
    ValueError unless window = 16 * 2^a * 3^b * 5^c, from SHORTEST on, and 1 <= hop <= window / 4.
    """

    window: int
    hop: int

    def __attrs_post_init__(self) -> None:
        left = self.window
        for prime in (2, 3, 5):
            while left > 0 and left % prime == 0:
                left //= prime
        if left != 1 or self.window % 16 or self.window < SHORTEST:
            expected = f"a multiple of 16 from {SHORTEST} on, with factors 2, 3 and 5 only"
            raise ValueError(f"window = {self.window} samples; expected {expected}")
        if not 1 <= self.hop <= self.window // 4:
            raise ValueError(f"hop = {self.hop} samples; expected 1 to window / 4 = {self.window // 4}")

    @property
    def bins(self) -> int:
        return self.window // 2 + 1

    @property
    def delay(self) -> int:
        """Samples by which sound lags behind the newest frame's last one."""
        return self.window - self.hop

    @cached_property
    def taper(self) -> Array:
        """The window [window] float64."""
        taper: Array = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        return taper

    @property
    def scale(self) -> float:
        """The magnitude that a sine of amplitude 1 has in a transform without factors."""
        return float(self.taper.sum() / 2)

    @cached_property
    def so_far(self) -> Array:
        """Sum of squared windows of all frames up to one, over its samples [window]; from LEAST of its maximum on."""
        overlapping = -(-self.window // self.hop)
        square = np.zeros(self.window)
        for late in range(overlapping):
            square[: self.window - late * self.hop] += self.taper[late * self.hop :] ** 2
        return np.maximum(square, LEAST * square.max())

    @property
    def step(self) -> float:
        """Radians that the middle frequency of bin 1 turns in a hop."""
        return 2 * math.pi * self.hop / self.window

    @property
    def half(self) -> float:
        """pi * hop / window: half of `step`."""
        return math.pi * self.hop / self.window
