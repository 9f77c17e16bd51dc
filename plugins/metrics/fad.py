"""Frechet audio distance between generated and recorded stems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from attrs import evolve, field, frozen

from accomp.core.audio.loudness import mix_for_listening, silent
from accomp.core.errors import EmptyClip
from accomp.core.evaluation.cache import Cache
from accomp.core.evaluation.embedders import build_embedder
from accomp.core.evaluation.frechet import LEAST, Pair, frechet_of, limit
from accomp.core.interfaces import Embedder
from accomp.core.registry import Registry
from accomp.core.types import Take, TokenSpace

Part = Literal["stem", "mix"]


def _once(_: object, attribute: Any, parts: tuple[str, ...]) -> None:
    if not parts or len(set(parts)) < len(parts):
        raise ValueError(f"{attribute.name} is {list(parts)}; expected 'stem', 'mix' or both, none of them twice")


class FAD:
    """Frechet distance between embeddings of the takes and of the true stems of the same clips.

    `fad_stem` compares the stems, at the level at which they are given ([evaluate] loudness); `fad_mix`
    ("sub-FAD") context and stem mixed for listening. Beside each, from 8 clips on, `..._inf`: the distance extrapolated
    to infinitely many clips (core/evaluation/frechet.py). The distance of N clips is biased by about c / N, so sets of
    different sizes are comparable only by this limit. `clips` and `vectors` give the sample size. If stem and truth are
    the same audio, as in the anchor of true stems, all distances are 0 by construction.

    The true stems are embedded once for all runs (`cache_in`).
    """

    best: ClassVar[dict[str, float]] = {}
    answers: ClassVar[dict[str, str]] = {"fad_stem": "as its instrument sounds"}
    needs: ClassVar[frozenset[str]] = frozenset({"truth"})
    interval: ClassVar[str] = "jackknife"

    @frozen
    class Config:
        embedding: str | dict[str, Any] = "musicnn"
        """An embedder's name, or a table {plugin = NAME, ...} with its keys (`accomp plugins --kind embedder`)."""
        on: tuple[Part, ...] = field(default=("stem", "mix"), validator=_once)

    def __init__(self, config: Config, space: TokenSpace | None = None, embedder: Embedder | None = None):
        """Raises PluginError if the embedder is unknown or its library or weights are missing."""
        self._config = config
        self._embedder = embedder or build_embedder(config.embedding, Registry(), where="metric fad: embedding")
        self._cache = Cache()
        self._takes: dict[str, dict[Part, Pair]] = {}
        self.sample_rate = self._embedder.sample_rate
        self.provenance = f"Frechet distance; {self._embedder.provenance}"

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Return a cheap configuration: stems only."""
        return cls.Config(on=("stem",))

    def cache_in(self, folder: Path) -> None:
        """Cache embeddings in a folder for other runs."""
        self._cache = Cache(folder / "embeddings")

    def fresh(self) -> FAD:
        """Return an empty metric for another set of takes that shares the embedder and its results."""
        other = FAD(self._config, embedder=self._embedder)
        other._cache = self._cache
        return other

    def update(self, take: Take) -> None:
        """Embed a take and its truth.

        Raises EmptyClip for a silent stem or true stem (no peak above -60 dB); ValueError for a take without
        truth, at a rate other than `sample_rate`, with NaN, shorter than a patch, or of a known id.
        """
        if take.id in self._takes:
            raise ValueError(f"take '{take.id}' was given twice")
        if take.sample_rate != self.sample_rate:
            raise ValueError(f"take '{take.id}' has {take.sample_rate} Hz; expected {self.sample_rate} Hz")
        if take.truth is None:
            raise ValueError("the take has no true stem to compare with")
        for name, audio in (("context", take.context), ("stem", take.stem), ("true stem", take.truth)):
            if not np.isfinite(audio).all():
                raise ValueError(f"the {name} holds NaN or Inf")
            if name != "context" and silent(audio):
                raise EmptyClip(f"the {name} is silent")
        truth = evolve(take, stem=take.truth)
        pairs: dict[Part, Pair] = {}
        for part in self._config.on:
            pairs[part] = self._embedded(_SOUNDS[part](take)), self._embedded(_SOUNDS[part](truth))
        self._takes[take.id] = pairs

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """Return `fad_stem`, `fad_mix`, their limits `..._inf` from 8 clips on, `clips`, and `vectors` per set.

        Raises ValueError without takes or for a single patch.
        """
        ids = list(self._takes if takes is None else takes)
        if not ids:
            raise ValueError("fad was given no take")
        numbers: dict[str, float] = {}
        for part in self._config.on:
            clips = sorted(
                (self._takes[id][part] for id in ids), key=lambda pair: (pair[0].tobytes(), pair[1].tobytes())
            )
            numbers[f"fad_{part}"] = frechet_of(clips)
            if len(clips) >= LEAST:
                numbers[f"fad_{part}_inf"] = limit(clips)
            numbers["vectors"] = float(sum(len(pair[0]) for pair in clips))
        return {**numbers, "clips": float(len(ids))}

    def per_take(self) -> dict[str, dict[str, float]]:
        """Return {} for each take: a distance between sets is not a mean over takes."""
        return {id: {} for id in self._takes}

    def _embedded(self, audio: np.ndarray) -> np.ndarray:
        return self._cache.array(self._embedder.fingerprint, audio, self._embedder.embed)


def _stem(take: Take) -> np.ndarray:
    return take.stem


def _mix(take: Take) -> np.ndarray:
    return mix_for_listening(take.context, take.stem, take.sample_rate, stems=take.stems)


_SOUNDS: dict[Part, Callable[[Take], np.ndarray]] = {"stem": _stem, "mix": _mix}
