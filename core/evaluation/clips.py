"""A clip as metrics hear it: the part that is judged, at their sample rate, at a stated loudness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs
import numpy as np
from attrs import frozen

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import a_weighted_level, nonsilent, normalise
from accomp.core.evaluation.clip_sets import Clip, ClipSet
from accomp.core.interfaces import Metric
from accomp.core.types import Loss, Take


@frozen
class Hearing:
    """How clips are heard.

    Attributes:
        rate: Hz of their sound.
        skip: samples at their beginning that are not judged.
        loudness: LUFS of context, stem and true stem, each by itself.
    """

    rate: int
    skip: int = 0
    loudness: float | Literal["as_played"] = "as_played"


class PreparedClip:
    """A clip for any metric, all made from the same sound, which is read once."""

    def __init__(self, clip: Clip, cell: ClipSet, hearing: Hearing):
        self._clip, self._cell, self._hearing = clip, cell, hearing
        self._takes: dict[tuple[int, bool], Take] = {}
        self._losses: dict[str, Loss] | None = None

    def by(self, metric: Metric) -> Take:
        """What the metric wants. Raises DataError for a file that cannot be read."""
        take = self._at(metric.sample_rate, as_played=getattr(metric, "as_played", False))
        if "losses" in getattr(metric, "needs", ()) and self._cell.losses is not None:
            self._losses = self._losses or self._cell.losses(self._clip.id)
            take = attrs.evolve(take, losses=self._losses)
        return take

    def _at(self, rate: int, *, as_played: bool) -> Take:
        native, loudness = self._hearing.rate, self._hearing.loudness
        as_played = as_played or loudness == "as_played"
        if (rate, as_played) not in self._takes:
            if rate != native:
                take = self._at(native, as_played=as_played)
                made = _each(take, lambda sound: audio.resample(sound, native, rate))
                made = attrs.evolve(made, sample_rate=rate)
            elif as_played:
                made = _each(self._clip.load(rate), lambda sound: sound[self._hearing.skip :])
            else:
                made = _each(self._at(rate, as_played=True), lambda sound: at_loudness(sound, rate, float(loudness)))
            self._takes[rate, as_played] = made
        return self._takes[rate, as_played]


def at_loudness(sound: np.ndarray, rate: int, lufs: float) -> np.ndarray:
    """sound [N] at `lufs`, or with a peak of 0.99 where that comes first; as it is where it nowhere sounds.

    What never rises above core.audio.loudness.SILENCE_DB would only have its noise lifted.
    """
    return normalise(sound, rate, lufs) if nonsilent(a_weighted_level(sound, rate)).any() else sound


def _each(take: Take, change: Callable[[np.ndarray], np.ndarray]) -> Take:
    truth = None if take.truth is None else change(take.truth)
    return attrs.evolve(take, context=change(take.context), stem=change(take.stem), truth=truth)
