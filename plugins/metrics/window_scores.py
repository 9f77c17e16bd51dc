"""Common base of metrics that score 5 s windows of context and stem by COCOLA's features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from accomp.core.errors import EmptyClip
from accomp.core.evaluation.cache import Cache
from accomp.core.types import Take
from accomp.plugins.metrics.coherence.hpss_mels import RECIPE, SAMPLE_RATE, features, masked, windows

SHORTEST = 1.0
"""Shortest clip (s)."""
SILENCE_DB = -60.0
"""Default RMS (dB re full scale) up to which a window is silent."""

M = TypeVar("M", bound="WindowScores")


class Scorer(Protocol):
    """A network that scores pairs of embeddings; rows of a batch are independent."""

    def embed(self, features: Tensor) -> Tensor:
        """features [B, 2, MELS, T] (dB) -> [B, ...]."""
        ...

    def pair(self, context: Tensor, stem: Tensor) -> Tensor:
        """Embeddings of both -> score [B]."""
        ...


class WindowScores:
    """Mean score over the windows of a take, then over takes, for each configured mode.

    Windows with a silent context or stem are not scored, since their features would be 0 dB everywhere. Their share is
    reported; a take of only such windows is empty. A take of 1 to 5 s is one window of its own length.
    """

    sample_rate = SAMPLE_RATE
    best: ClassVar[dict[str, float]] = {}

    def __init__(self, name: str, scorer: Scorer, fingerprint: str, modes: Sequence[str], silence_db: float):
        """`name`: key of the score, `name`_`mode` for modes other than "both"; `fingerprint`: hash of the weights."""
        self._names = {mode: name if mode == "both" else f"{name}_{mode}" for mode in modes}
        self._scorer, self._silence_db = scorer, silence_db
        self._what = f"{name} {fingerprint} of {', '.join(self._names)}, features {RECIPE}"
        self._cache = Cache()
        self._takes: dict[str, np.ndarray] = {}

    def fresh(self: M) -> M:
        """Return an empty metric for other takes that shares the network and the cached contexts."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._takes = {}
        return other

    def cache_in(self, folder: Path) -> None:
        """Cache embeddings of contexts in a folder for other runs."""
        self._cache = Cache(folder)

    def update(self, take: Take) -> None:
        """Add a take. Raises EmptyClip if every window is silent; ValueError for a rate other than
        `sample_rate`, NaN, sides of unequal length, under 1 s, or a known id."""
        if take.id in self._takes:
            raise ValueError(f"take '{take.id}' was given twice")
        if take.sample_rate != self.sample_rate:
            raise ValueError(f"take '{take.id}' has {take.sample_rate} Hz; expected {self.sample_rate} Hz")
        if len(take.context) != len(take.stem):
            raise ValueError(f"the context has {len(take.context)} samples, the stem {len(take.stem)}; expected equal")
        for side, audio in (("context", take.context), ("stem", take.stem)):
            if len(audio) < SHORTEST * SAMPLE_RATE:
                raise ValueError(f"the {side} lasts {len(audio) / SAMPLE_RATE:.2f} s; expected {SHORTEST:g} s or more")
            if not np.isfinite(audio).all():
                raise ValueError(f"the {side} holds NaN or Inf")
        stems = windows(take.stem)
        sounds = {"context": self._sounding(windows(take.context)), "stem": self._sounding(stems)}
        judged = sounds["context"] & sounds["stem"]
        if not judged.any():
            silent = [side for side, sounding in sounds.items() if not sounding.any()] or ["context or stem"]
            raise EmptyClip(f"{' and '.join(silent)} silent (RMS of {self._silence_db:g} dB or less in every window)")
        contexts = self._cache.array(self._what, take.context, lambda audio: self._embedded(windows(audio)))
        scores = self._pairs(contexts[:, judged], self._embedded(stems[judged]))
        self._takes[take.id] = np.array([*scores.mean(axis=1), 1 - judged.mean()], dtype=np.float64)

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """Return the means over `takes` (ids, may repeat) or all. Raises ValueError without takes."""
        ids = list(self._takes) if takes is None else list(takes)
        if not ids:
            raise ValueError(f"{next(iter(self._names.values()))} was given no take")
        return self._numbers(np.mean([self._takes[id] for id in ids], axis=0))

    def per_take(self) -> dict[str, dict[str, float]]:
        """Return the score of each mode and `silent_windows`, the share of silent windows, for each take id."""
        return {id: self._numbers(values) for id, values in self._takes.items()}

    def _numbers(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip((*self._names.values(), "silent_windows"), values.tolist(), strict=True))

    def _sounding(self, parts: np.ndarray) -> np.ndarray:
        rms = np.sqrt(np.square(parts, dtype=np.float64).mean(axis=1))
        return 20 * np.log10(np.maximum(rms, 1e-10)) > self._silence_db

    def _embedded(self, parts: np.ndarray) -> np.ndarray:
        """Windows [W, N] -> embeddings in each mode [modes, W, ...]."""
        heard = np.stack([features(part) for part in parts])
        with torch.inference_mode():
            made = [self._scorer.embed(torch.from_numpy(masked(heard, mode))) for mode in self._names]
            return torch.stack(made).numpy()

    def _pairs(self, contexts: np.ndarray, stems: np.ndarray) -> np.ndarray:
        """Both [modes, W, ...] -> scores [modes, W]."""
        with torch.inference_mode():
            pairs = zip(torch.from_numpy(contexts), torch.from_numpy(stems), strict=True)
            return torch.stack([self._scorer.pair(context, stem) for context, stem in pairs]).numpy()
