"""Divergences of musical descriptors (StemGen's MIRDD) with open extractors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from attrs import evolve, field, frozen
from attrs import validators as v

from accomp.core.audio.loudness import mix_for_listening, silent
from accomp.core.errors import EmptyClip
from accomp.core.evaluation.cache import Cache
from accomp.core.types import Take, TokenSpace
from accomp.plugins.metrics.mirdd.descriptors import DESCRIPTORS, divergence, histogram
from accomp.plugins.metrics.mirdd.extractors import PROVENANCE, RATE, Ears, require_libraries

Name = Literal[
    "key", "pitch_range", "pitch_class_count", "onset_density", "beats_per_bar", "chord_variety", "mode_alternation",
    "note_pitch", "pitch_class", "chord_triad",
]  # fmt: skip


def _once(_: object, attribute: Any, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{attribute.name} is {list(names)}; expected at least one, none of them twice")


class MirddOpen:
    """KL divergence of each descriptor between mixes with generated stems and mixes with true stems.

    `kl_NAME` is KL(takes || truth) in nats, over the histograms of all clips (descriptors.py) with `smoothing` added to
    each bin; `mirdd` is their mean. It has ten of the paper's eleven descriptors and other extractors, as those of the
    paper are not public: values are not comparable with the paper. Two samples of one population differ by about
    (bins - 1) / counts nats: compare sets of equal size, and with the anchors. If stem and truth are the same audio, as
    in the anchor of true stems, all are 0 by construction.

    Cost: about 11 s of one core per 10 s of mix (key 4.2, bars 3.5, onsets 2.3). Each sound is analysed once for all
    runs (`cache_in`), safe with concurrent processes. madmom's models are licensed CC BY-NC-SA 4.0: no
    commercial use.
    """

    sample_rate = RATE
    best: ClassVar[dict[str, float]] = {}
    needs: ClassVar[frozenset[str]] = frozenset({"truth"})
    interval: ClassVar[str] = "jackknife"
    provenance = f"{PROVENANCE}; without structure labels; not comparable with published MIRDD"

    @frozen
    class Config:
        descriptors: tuple[Name, ...] = field(default=tuple(DESCRIPTORS), validator=_once)
        """Descriptor names, see descriptors.py."""
        smoothing: float = field(default=0.5, validator=v.gt(0.0))
        """Added to the count of every bin of both histograms."""

    def __init__(self, config: Config, space: TokenSpace | None = None, ears: Ears | None = None):
        """Raises PluginError if a library is missing; loads none."""
        if ears is None:
            require_libraries("metric 'mirdd_open'")
        self._config = config
        self._ears = ears or Ears()
        self._takes: dict[str, dict[Name, tuple[np.ndarray, np.ndarray]]] = {}

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Return a configuration with fast extractors only."""
        return cls.Config(descriptors=("chord_variety", "mode_alternation", "chord_triad"))

    def cache_in(self, folder: Path) -> None:
        """Cache features in a folder for other runs."""
        self._ears = self._ears.within(Cache(folder / "descriptors"))

    def fresh(self) -> MirddOpen:
        """Return an empty metric for another set of takes that shares the extractors and their results."""
        return MirddOpen(self._config, ears=self._ears)

    def update(self, take: Take) -> None:
        """Analyse a take and its true stem, each mixed with the context.

        Raises EmptyClip for a silent stem or true stem (no peak above -60 dB); ValueError for a take without
        truth, at a rate other than `sample_rate`, with NaN, under 2 s, or of a known id.
        """
        if take.id in self._takes:
            raise ValueError(f"take '{take.id}' was given twice")
        if take.sample_rate != RATE:
            raise ValueError(f"take '{take.id}' has {take.sample_rate} Hz; expected {RATE} Hz")
        if take.truth is None:
            raise ValueError("the take has no true stem to compare with")
        if len(take.stem) < 2 * RATE:
            raise ValueError(f"the clip lasts {len(take.stem) / RATE:.2f} s; descriptors of music need 2 s or more")
        for name, audio in (("context", take.context), ("stem", take.stem), ("true stem", take.truth)):
            if not np.isfinite(audio).all():
                raise ValueError(f"the {name} holds NaN or Inf")
            if name != "context" and silent(audio):
                raise EmptyClip(f"the {name} is silent")
        mixes = [self._mix(take), self._mix(evolve(take, stem=take.truth))]
        played, true = ({name: self._counts(name, mix) for name in self._names} for mix in mixes)
        self._takes[take.id] = {name: (played[name], true[name]) for name in self._names}

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """Return `kl_NAME` of each descriptor and `mirdd`, their mean (nats). Raises ValueError without takes."""
        ids = list(self._takes if takes is None else takes)
        if not ids:
            raise ValueError("mirdd_open was given no take")
        numbers = {}
        for name in self._names:
            played, true = (np.sum([self._takes[id][name][side] for id in ids], axis=0) for side in (0, 1))
            numbers[f"kl_{name}"] = divergence(played, true, self._config.smoothing)
        return {"mirdd": float(np.mean(list(numbers.values()))), **numbers}

    def per_take(self) -> dict[str, dict[str, float]]:
        """Return {} for each take: a divergence of populations is not a mean over takes."""
        return {id: {} for id in self._takes}

    @property
    def _names(self) -> tuple[Name, ...]:
        return self._config.descriptors

    def _mix(self, take: Take) -> np.ndarray:
        return mix_for_listening(take.context, take.stem, RATE, stems=take.stems).astype(np.float32)

    def _counts(self, name: Name, mix: np.ndarray) -> np.ndarray:
        descriptor = DESCRIPTORS[name]
        return histogram(descriptor.of(self._ears.hear(descriptor.needs, mix)), descriptor.bins)
