"""Clips prepared for metrics: the scored part, at the metric's sample rate, at a stated loudness."""

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
    """Settings of the preparation of clips.

    Attributes:
        rate: Hz of their audio.
        skip: samples at their beginning that are not scored.
        loudness: LUFS of context, stem and true stem, each by itself.
    """

    rate: int
    skip: int = 0
    loudness: float | Literal["as_played"] = "as_played"


class PreparedClip:
    """A clip for any metric, derived from the same audio, which is read once."""

    def __init__(self, clip: Clip, cell: ClipSet, hearing: Hearing):
        self._clip, self._cell, self._hearing = clip, cell, hearing
        self._takes: dict[tuple[int, bool], Take] = {}
        self._losses: dict[str, Loss] | None = None

    def by(self, metric: Metric) -> Take:
        """Return the clip as a metric requires it. Raises DataError for an unreadable file."""
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
                prepared = _each(take, lambda sound: audio.resample(sound, native, rate))
                prepared = attrs.evolve(prepared, sample_rate=rate)
            elif as_played:
                prepared = _each(self._clip.load(rate), lambda sound: sound[self._hearing.skip :])
            else:
                prepared = _each(
                    self._at(rate, as_played=True), lambda sound: at_loudness(sound, rate, float(loudness))
                )
            self._takes[rate, as_played] = prepared
        return self._takes[rate, as_played]


def at_loudness(sound: np.ndarray, rate: int, lufs: float) -> np.ndarray:
    """Scale a sound [N] to `lufs`, or to a peak of 0.99 where that is reached first; silence is left unchanged.

    A sound that never rises above core.audio.loudness.SILENCE_DB counts as silence, since only its noise would be
    raised.
    """
    return normalise(sound, rate, lufs) if nonsilent(a_weighted_level(sound, rate)).any() else sound


def _each(take: Take, change: Callable[[np.ndarray], np.ndarray]) -> Take:
    truth = None if take.truth is None else change(take.truth)
    return attrs.evolve(take, context=change(take.context), stem=change(take.stem), truth=truth)
