"""When the blocks of a sound device were processed: times as places, without the jitter of callbacks."""

from __future__ import annotations

import math

import numpy as np

KEPT = 32
"""Blocks over which the lead is taken; at 10 ms a third of a second, after which a device's stall is known."""


class PlaceTimes:
    """Places by times. A callback may come late but never early, so that the least late of the last ones counts. One
    thread notes, any may read.
    """

    def __init__(self, rate: int):
        self._rate, self._count = rate, 0
        self._leads = np.full(KEPT, -math.inf)

    def note(self, place: int, time: float) -> None:
        """Note that the block at a place was processed at `time` (s)."""
        self._leads[self._count % KEPT] = place / self._rate - time
        self._count += 1

    def place_at(self, time: float) -> float:
        """The place whose block is processed at `time` (s); 0 before the first block."""
        lead = float(self._leads.max())
        return 0.0 if lead == -math.inf else (time + lead) * self._rate
