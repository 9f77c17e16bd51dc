"""Harmonic agreement of context and accompaniment by chroma correlation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from attrs import frozen

from accomp.core.errors import EmptyClip
from accomp.core.evaluation.cache import Cache
from accomp.core.music.instruments import CLASSES
from accomp.core.types import Take, TokenSpace
from accomp.plugins.metrics.chroma import HOP, RATE, chroma
from accomp.plugins.metrics.pairs import check_pair

PITCHLESS = frozenset({"Percussive", "Sound Effects"})
"""Instrument classes without pitch."""
SMOOTHED = 5
"""Frames (0.5 s) over which chroma is averaged."""
QUIET = 1e-4
"""Threshold of silent frames, as a share of the power of the loudest frame."""
LEAST = 5
"""Smallest number of frames in which both are audible."""
_IDENTITY = "chroma 1"


class Harmony:
    """Mean correlation of the chroma of context and stem, over the frames in which both are audible.

    Chroma (chroma.py) are averaged over 0.5 s; the 12 values of each frame are correlated: 1 for equal pitch classes, 0
    for unrelated ones, negative for complementary ones. Unpitched classes (drums, percussion, effects) and clips in
    which both are audible for less than 0.5 s are not scored.
    """

    best: ClassVar[dict[str, float]] = {"harmony": 1.0}
    answers: ClassVar[dict[str, str]] = {"harmony": "in key"}
    provenance = "harmony: correlation of chroma (STFT, own code)"
    sample_rate = RATE

    @frozen
    class Config:
        """No options."""

    def __init__(self, config: Config, space: TokenSpace | None = None):
        self._config = config
        self._cache = Cache()
        self._takes: dict[str, dict[str, float]] = {}

    def fresh(self) -> Harmony:
        """Return an empty metric for another set of takes that shares the cache."""
        other = Harmony(self._config)
        other._cache = self._cache
        return other

    def cache_in(self, folder: Path) -> None:
        """Cache chroma in a folder by audio for other runs."""
        self._cache = Cache(folder / "chroma")

    def update(self, take: Take) -> None:
        """Add a take. Raises EmptyClip for an unpitched class or too little overlap.

        Raises ValueError for a rate other than `sample_rate`, NaN, under 1 s, or a known id.
        """
        check_pair(take, self._takes, self.sample_rate, "expected")
        if CLASSES[take.instrument] in PITCHLESS:
            raise EmptyClip(f"{CLASSES[take.instrument]} plays no harmony")
        context, stem = self._heard(take.context), self._heard(take.stem)
        agreement = correlation(context, stem)
        if len(agreement) < LEAST:
            both = len(agreement) * HOP / RATE
            raise EmptyClip(f"context and stem sound with pitch together for {both:.1f} s; expected 0.5 s or more")
        self._takes[take.id] = {"harmony": float(agreement.mean()), "compared": len(agreement) * HOP / RATE}

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """Return `harmony`, the mean over takes. Raises ValueError without takes."""
        chosen = list(self._takes) if takes is None else takes
        if not chosen:
            raise ValueError("harmony was given no take")
        return {"harmony": float(np.mean([self._takes[id]["harmony"] for id in chosen]))}

    def per_take(self) -> dict[str, dict[str, float]]:
        """Take id -> `harmony`, and `compared`, the seconds in which both are audible."""
        return {id: dict(values) for id, values in self._takes.items()}

    def _heard(self, audio: np.ndarray) -> np.ndarray:
        """Return chroma and power [n, 13], cached."""
        return self._cache.array(_IDENTITY, audio, lambda sound: np.column_stack(chroma(sound)))


def correlation(context: np.ndarray, stem: np.ndarray) -> np.ndarray:
    """Chroma and power [n, 13] of each -> correlation of each frame in which both are audible [m]."""
    frames = min(len(context), len(stem))
    context, stem = context[:frames], stem[:frames]
    sounding = np.logical_and.reduce([one[:, 12] > QUIET * one[:, 12].max() for one in (context, stem)])
    a, b = (_centred(_smooth(one[sounding, :12])) for one in (context, stem))
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    pitched = sizes > 1e-9
    found: np.ndarray = (a * b).sum(axis=1)[pitched] / sizes[pitched]
    return found


def _smooth(chroma: np.ndarray) -> np.ndarray:
    """Average over SMOOTHED frames, fewer at the ends."""
    total = np.cumsum(np.pad(chroma, ((SMOOTHED // 2 + 1, SMOOTHED // 2), (0, 0))), axis=0)
    sums = total[SMOOTHED:] - total[:-SMOOTHED]
    return sums[: len(chroma)] / SMOOTHED


def _centred(chroma: np.ndarray) -> np.ndarray:
    return chroma - chroma.mean(axis=1, keepdims=True)
