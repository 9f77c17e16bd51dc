"""Is the music made of what music is made of? StemGen's divergences of descriptors (MIRDD), by open extractors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from attrs import evolve, field, frozen
from attrs import validators as v

from accomp.plugin import EmptyClip, Take, TokenSpace
from accomp.plugin.metrics import Cache
from accomp.plugin.sound import mix_for_listening, silent
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
    """KL divergence, descriptor by descriptor, of takes mixed with their contexts from true stems mixed with theirs.

    `kl_NAME` is KL(takes || truth) in nats, of the counts of all clips in the bins of mirdd_descriptors.py, `smoothing`
    added to each bin; `mirdd` is their mean. Ten of the paper's eleven descriptors, since its extractors are not public
    and nothing open names sections; so numbers are not those of the paper. Two samples of one population are apart by
    about (bins - 1) / counts nats: compare cells of equal size, and with the anchors. Where stem and truth are the same
    sound, as in the anchor of true stems, all are 0 by construction.

    Dear: some 11 s of one core for 10 s of a mix (key 4.2, bars 3.5, onsets 2.3). Each sound is analysed once for all
    cells and runs (`cache_in`), by any number of processes at once. madmom's models are licensed CC BY-NC-SA 4.0: no
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
        """Which, of mirdd_descriptors.py."""
        smoothing: float = field(default=0.5, validator=v.gt(0.0))
        """What is added to the count of every bin of both sides."""

    def __init__(self, config: Config, space: TokenSpace | None = None, ears: Ears | None = None):
        """Raises PluginError where a library is missing; loads none yet."""
        if ears is None:
            require_libraries("metric 'mirdd_open'")
        self._config = config
        self._ears = ears or Ears()
        self._takes: dict[str, dict[Name, tuple[np.ndarray, np.ndarray]]] = {}

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """The descriptors whose extractor is fast."""
        return cls.Config(descriptors=("chord_variety", "mode_alternation", "chord_triad"))

    def cache_in(self, folder: Path) -> None:
        """Keep there what was heard, for other cells and runs."""
        self._ears = self._ears.within(Cache(folder / "descriptors"))

    def fresh(self) -> MirddOpen:
        """An empty metric for another set of takes, with this one's extractors and what they have heard."""
        return MirddOpen(self._config, ears=self._ears)

    def update(self, take: Take) -> None:
        """Hear a take and its truth, each with the context.

        Raises EmptyClip where the stem or the true one is silent (no peak above -60 dB); ValueError for a take without
        truth, at a rate other than `sample_rate`, with NaN, under 2 s, or of a known id.
        """
        if take.id in self._takes:
            raise ValueError(f"take '{take.id}' was given twice")
        if take.sample_rate != RATE:
            raise ValueError(f"take '{take.id}' has {take.sample_rate} Hz; expected {RATE} Hz")
        if take.truth is None:
            raise ValueError("nobody knows what was played: there is no true stem to compare with")
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
        """`kl_NAME` of each descriptor and `mirdd`, their mean (nats). ValueError if there is no take."""
        ids = list(self._takes if takes is None else takes)
        if not ids:
            raise ValueError("mirdd_open was given no take")
        numbers = {}
        for name in self._names:
            played, true = (np.sum([self._takes[id][name][side] for id in ids], axis=0) for side in (0, 1))
            numbers[f"kl_{name}"] = divergence(played, true, self._config.smoothing)
        return {"mirdd": float(np.mean(list(numbers.values()))), **numbers}

    def per_take(self) -> dict[str, dict[str, float]]:
        """{} for each take: a divergence of populations is no mean over takes."""
        return {id: {} for id in self._takes}

    @property
    def _names(self) -> tuple[Name, ...]:
        return self._config.descriptors

    def _mix(self, take: Take) -> np.ndarray:
        return mix_for_listening(take.context, take.stem, RATE, stems=take.stems).astype(np.float32)

    def _counts(self, name: Name, mix: np.ndarray) -> np.ndarray:
        descriptor = DESCRIPTORS[name]
        return histogram(descriptor.of(self._ears.hear(descriptor.needs, mix)), descriptor.bins)
