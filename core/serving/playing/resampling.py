"""Resampling between a page's rate and the codec's, with a ratio that tracks the page's clock."""

from __future__ import annotations

import math

import numpy as np
import soxr
from attrs import define, field

from accomp.core.serving.playing.polyphase import Polyphase, reach

LIMIT = 5e-4
"""Largest relative deviation of the ratio from nominal: less than a cent of pitch."""
VARYING_DELAY = 240
"""Delay of a resampler whose ratio varies, in samples of its input."""


def delay(rate: int, to: int, *, varies: bool) -> float:
    """Return the delay of a Resampler (s)."""
    if varies:
        return VARYING_DELAY / rate
    return 0.0 if rate == to else reach(rate, to) / rate


class Resampler:
    """Resamples mono audio: sample n of the input and sample n * to / rate of the output are simultaneous, up to 0.05
    ms where the ratio varies. Equal rates without correction pass through.
    """

    def __init__(self, rate: int, to: int, *, varies: bool = False):
        """varies: the ratio will be corrected."""
        self._rate, self._to = rate, to
        self.correction = 0.0
        self._varying = self._fixed = None
        if varies:
            self._varying = soxr.ResampleStream(rate * (1 + 2 * LIMIT), to, 1, dtype="float32", vr=True)
            self._varying.set_io_ratio(rate, to)
        elif rate != to:
            self._fixed = Polyphase(rate, to)

    def correct(self, share: float, over: int = 0) -> None:
        """Make an input sample last (1 + share) times its nominal length, within LIMIT; slew over `over` samples. Does
        nothing where the ratio does not vary.
        """
        share = min(LIMIT, max(-LIMIT, share))
        if share != self.correction and self._varying is not None:
            self._varying.set_io_ratio(self._rate, self._to * (1 + share), over)
            self.correction = share

    def push(self, sound: np.ndarray) -> np.ndarray:
        """Resample audio [n] float32 -> the output that is ready [m] float32."""
        if self._fixed is not None:
            return self._fixed.push(sound)
        if self._varying is None or not len(sound):
            return sound
        out: np.ndarray = self._varying.resample_chunk(np.ascontiguousarray(sound, np.float32))
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
