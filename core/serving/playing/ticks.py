"""How the ticks of a server go: what they took, how many were late, how busy the thread was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from attrs import define, field

REMEMBERED = 60.0
"""Seconds of ticks that are kept."""
RECENT = 10.0
"""Seconds that figures of the present speak of."""


@define(eq=False)
class Ticks:
    """Written by the model's thread, read by any.

    Attributes:
        period: seconds that a tick may take, its waiting included.
        count, late, reanchored: since the beginning.
        seen: called with each tick: seconds, whether it was late, and the seconds of its parts by name.
    """

    period: float
    seen: Callable[[float, bool, dict[str, float]], None] = lambda seconds, late, parts: None
    now: Callable[[], float] = time.monotonic
    count: int = 0
    late: int = 0
    reanchored: int = 0
    _kept: deque[tuple[float, float, bool]] = field(factory=deque, init=False)

    def add(self, waited: float, seconds: float, **parts: float) -> None:
        """A tick that began `waited` seconds after it was due, and took so many."""
        now, late = self.now(), waited + seconds > self.period
        self.count += 1
        self.late += late
        self._kept.append((now, seconds, late))
        while self._kept[0][0] < now - REMEMBERED:
            self._kept.popleft()
        self.seen(seconds, late, parts)

    def quantiles(self, *shares: float) -> list[float]:
        """Of the seconds that the recent ticks took; zeros where there was none."""
        recent = [seconds for _, seconds, _ in self._since(RECENT)]
        return [float(q) for q in np.quantile(recent, shares)] if recent else [0.0] * len(shares)

    @property
    def load(self) -> float:
        """Share of the recent time that ticks took."""
        return sum(seconds for _, seconds, _ in self._since(RECENT)) / RECENT

    def in_time(self, share: float) -> bool:
        """Whether the last minute's ticks were in time, but for that share of them."""
        minute = self._since(REMEMBERED)
        return sum(late for _, _, late in minute) <= share * max(len(minute), round(REMEMBERED / self.period))

    def _since(self, seconds: float) -> list[tuple[float, float, bool]]:
        begin = self.now() - seconds
        for _ in range(5):
            try:
                return [kept for kept in list(self._kept) if kept[0] >= begin]
            except RuntimeError:  # it was written meanwhile
                continue
        return []
