"""A clip at the sample rates that metrics want."""

from __future__ import annotations

import attrs

from accomp.core import audio
from accomp.core.runner.cells import SongClip, TakeClip
from accomp.core.types import Take


class AtRates:
    """A clip at any rate, all made from the same sound at the codec's `rate` (Hz)."""

    def __init__(self, clip: TakeClip | SongClip, rate: int):
        self._clip, self._rate = clip, rate
        self._takes: dict[int, Take] = {}

    def at(self, rate: int) -> Take:
        """Raises DataError for a file that cannot be read."""
        if self._rate not in self._takes:
            self._takes[self._rate] = self._clip.load(self._rate)
        if rate not in self._takes:
            take = self._takes[self._rate]
            context, stem = (audio.resample(sound, self._rate, rate) for sound in (take.context, take.stem))
            truth = None if take.truth is None else audio.resample(take.truth, self._rate, rate)
            self._takes[rate] = attrs.evolve(take, context=context, stem=stem, truth=truth, sample_rate=rate)
        return self._takes[rate]
