"""Statistics of a server's ticks: durations, lateness, load."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from attrs import define, field

HISTORY = 60.0
"""Seconds of ticks that are kept."""
RECENT = 10.0
"""Window of current figures in seconds."""


@define(eq=False)
class Ticks:
    """Tick statistics, written by the model's thread, read by any.

    Attributes:
        period: deadline of a tick in seconds, its waiting included.
        count, late, resynced: totals.
        seen: callback of each tick: seconds, whether it was late, and the seconds of its parts by name.
    """

    period: float
    seen: Callable[[float, bool, dict[str, float]], None] = lambda seconds, late, parts: None
    now: Callable[[], float] = time.monotonic
    count: int = 0
    late: int = 0
    resynced: int = 0
    _recent: deque[tuple[float, float, bool]] = field(factory=deque, init=False)

    def add(self, waited: float, seconds: float, **parts: float) -> None:
        """Record a tick that began `waited` seconds late and took `seconds`."""
        now, late = self.now(), waited + seconds > self.period
        self.count += 1
        self.late += late
        self._recent.append((now, seconds, late))
        while self._recent[0][0] < now - HISTORY:
            self._recent.popleft()
        self.seen(seconds, late, parts)

    def quantiles(self, *shares: float) -> list[float]:
        """Quantiles of the seconds that recent ticks took; zeros without any."""
        recent = [seconds for _, seconds, _ in self._since(RECENT)]
        return [float(q) for q in np.quantile(recent, shares)] if recent else [0.0] * len(shares)

    @property
    def load(self) -> float:
        """Share of the recent time that ticks took."""
        return sum(seconds for _, seconds, _ in self._since(RECENT)) / RECENT

    def in_time(self, share: float) -> bool:
        """Whether the share of late ticks in the last minute is at most `share`."""
        minute = self._since(HISTORY)
        return sum(late for _, _, late in minute) <= share * max(len(minute), round(HISTORY / self.period))

    def _since(self, seconds: float) -> list[tuple[float, float, bool]]:
        begin = self.now() - seconds
        for _ in range(5):
            try:
                return [tick for tick in list(self._recent) if tick[0] >= begin]
            except RuntimeError:  # a concurrent write
                continue
        return []
