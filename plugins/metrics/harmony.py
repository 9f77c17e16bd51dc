"""Do context and accompaniment agree in harmony? The pitch classes that sound in both are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from attrs import frozen

from accomp.plugin import EmptyClip, Take, TokenSpace
from accomp.plugin.corpora import CLASSES
from accomp.plugin.metrics import Cache
from accomp.plugins.metrics.chroma import HOP, RATE, chroma
from accomp.plugins.metrics.pairs import check_pair

PITCHLESS = frozenset({"Percussive", "Sound Effects"})
"""Instrument classes that play no harmony."""
SMOOTHED = 5
"""Frames (0.5 s) over which chroma is averaged."""
QUIET = 1e-4
"""Of the loudest frame's power: under that a frame does not sound."""
LEAST = 5
"""Frames in which both sound, or there is nothing to judge."""
_IDENTITY = "chroma 1"


class Harmony:
    """Mean correlation of the chroma of context and stem, over the frames in which both sound.

    Chroma (chroma.py) are averaged over 0.5 s, and each frame's 12 values are correlated about their means: 1 where the
    same pitch classes sound, 0 for unrelated ones, below 0 for such as avoid each other. What plays no pitches (drums,
    percussion, effects), and clips in which both sound for less than 0.5 s, are not judged.
    """

    best: ClassVar[dict[str, float]] = {"harmony": 1.0}
    answers: ClassVar[dict[str, str]] = {"harmony": "in key"}
    provenance = "harmony: correlation of chroma (STFT, own code)"
    sample_rate = RATE

    @frozen
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config, space: TokenSpace | None = None):
        self._config = config
        self._cache = Cache()
        self._takes: dict[str, dict[str, float]] = {}

    def fresh(self) -> Harmony:
        """An empty metric for another set of takes that shares what this one has heard."""
        other = Harmony(self._config)
        other._cache = self._cache
        return other

    def cache_in(self, folder: Path) -> None:
        """Keep chroma there, by sound, for other cells and runs."""
        self._cache = Cache(folder / "chroma")

    def update(self, take: Take) -> None:
        """Judge a take. Raises EmptyClip where there is no harmony to judge.

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
        """`harmony`, the mean over takes. ValueError if there is none."""
        chosen = list(self._takes) if takes is None else takes
        if not chosen:
            raise ValueError("harmony was given no take")
        return {"harmony": float(np.mean([self._takes[id]["harmony"] for id in chosen]))}

    def per_take(self) -> dict[str, dict[str, float]]:
        """Take id -> `harmony`, and `compared`, the seconds in which both sound."""
        return {id: dict(values) for id, values in self._takes.items()}

    def _heard(self, audio: np.ndarray) -> np.ndarray:
        """[n, 13]: chroma and power."""
        return self._cache.array(_IDENTITY, audio, lambda sound: np.column_stack(chroma(sound)))


def correlation(context: np.ndarray, stem: np.ndarray) -> np.ndarray:
    """Chroma and power [n, 13] of each -> the correlation of the frames in which both sound [m]."""
    frames = min(len(context), len(stem))
    context, stem = context[:frames], stem[:frames]
    sounding = np.logical_and.reduce([one[:, 12] > QUIET * one[:, 12].max() for one in (context, stem)])
    a, b = (_centred(_smooth(one[sounding, :12])) for one in (context, stem))
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    pitched = sizes > 1e-9
    found: np.ndarray = (a * b).sum(axis=1)[pitched] / sizes[pitched]
    return found


def _smooth(chroma: np.ndarray) -> np.ndarray:
    """Means over SMOOTHED frames, of fewer at the ends."""
    total = np.cumsum(np.pad(chroma, ((SMOOTHED // 2 + 1, SMOOTHED // 2), (0, 0))), axis=0)
    sums = total[SMOOTHED:] - total[:-SMOOTHED]
    return sums[: len(chroma)] / SMOOTHED


def _centred(chroma: np.ndarray) -> np.ndarray:
    return chroma - chroma.mean(axis=1, keepdims=True)
