"""Resampling between a page's rate and the codec's, with a ratio that tracks the page's clock."""

from __future__ import annotations

import math

import numpy as np
import soxr
from attrs import define, field

LIMIT = 5e-4
"""Largest relative deviation of the ratio from nominal: less than a cent of pitch."""
DELAY = 240
"""Delay of a resampler in samples of its input."""


class Resampler:
    """Resamples mono audio: sample n of the input and sample n * to / from of the output are simultaneous, up to 0.05
    ms; DELAY samples are delayed. Equal rates without correction pass through.
    """

    def __init__(self, rate: float, to: float, *, varies: bool = False):
        """varies: the ratio will be corrected."""
        self._rate, self._to = rate, to
        self.correction = 0.0
        self._stream = None
        if varies or rate != to:
            self._stream = soxr.ResampleStream(rate * (1 + 2 * LIMIT), to, 1, dtype="float32", vr=True)
            self._stream.set_io_ratio(rate, to)

    def correct(self, share: float, over: int = 0) -> None:
        """Make an input sample last (1 + share) times its nominal length, within LIMIT; slew over `over` samples."""
        share = min(LIMIT, max(-LIMIT, share))
        if share != self.correction and self._stream is not None:
            self._stream.set_io_ratio(self._rate, self._to * (1 + share), over)
            self.correction = share

    def push(self, sound: np.ndarray) -> np.ndarray:
        """Resample audio [n] float32 -> the output that is ready [m] float32."""
        if self._stream is None or not len(sound):
            return sound
        out: np.ndarray = self._stream.resample_chunk(np.ascontiguousarray(sound, np.float32))
        return out


@define
class DriftControl:
    """Keeps a queue at its target level by the ratio of a resampler: a proportional-integral controller.

    Attributes:
        target: level (s).
        share: the correction; positive makes input last longer, when the queue runs dry.
    """

    target: float = 0.04
    smoothing: float = 2.0
    proportional: float = 0.02
    integral: float = 1e-4
    share: float = 0.0
    _level: float | None = field(default=None, init=False)
    _sum: float = field(default=0.0, init=False)
    _limited: float = field(default=0.0, init=False)

    def update(self, level: float, seconds: float) -> float:
        """Process the queue's level (s), `seconds` after the previous one -> the correction."""
        weight = 1 - math.exp(-seconds / self.smoothing)
        self._level = level if self._level is None else self._level + weight * (level - self._level)
        error = self.target - self._level
        most = LIMIT / self.integral
        self._sum = min(most, max(-most, self._sum + error * seconds))
        share = self.proportional * error + self.integral * self._sum
        self.share = min(LIMIT, max(-LIMIT, share))
        self._limited = self._limited + seconds if abs(share) > LIMIT else 0.0
        return self.share

    @property
    def lost(self) -> bool:
        """Whether the controller has been at its limit for 10 s."""
        return self._limited > 10

    def restart(self) -> None:
        """Restart from the next level; the estimate of the drift stays."""
        self._level, self._limited = None, 0.0
