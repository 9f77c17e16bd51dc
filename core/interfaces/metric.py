"""Interfaces of metrics and of the embedding networks behind some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from accomp.core.types import Take

if TYPE_CHECKING:
    import numpy as np


@runtime_checkable
class Metric(Protocol):
    """A score of a set of takes. One instance scores one set.

    Optional attributes and methods:

        needs       frozenset of data that a take must have beside its audio: "truth", "losses" (see Take). The metric
                    does not apply to a clip set that lacks it, which the record states;
        as_played   True where levels matter: it gets takes at the level at which they were played, not at the loudness
                    of [evaluate];
        provenance  one line for the report on the networks it uses and their licence;
        fresh()     -> Metric, an empty one for another set of takes, which shares expensive resources;
        cache_in(folder)  called once, before the first take: a folder for expensive intermediate results, kept for
                    other runs under a hash of all that they depend on, and safe for concurrent processes;
        resamples   int, number of bootstrap resamples: 2000 where not given; fewer where `result` is slow;
        answers     number -> a skill that the number shows where it is good: {"beat_f1": "in time"}; the report states
                    whether the model is significantly better than random pairing;
        interval    "bootstrap", or "jackknife" (delete-a-group, over takes) for statistics that repeated takes would
                    bias, such as distances between sets.

    Attributes:
        sample_rate: Hz; takes are resampled to it before `update`.
        best: value of each number when the stem is the context itself, where that is known.
    """

    sample_rate: int
    best: ClassVar[dict[str, float]]

    def update(self, take: Take) -> None:
        """Add a take to the set.

        Args:
            take: audio at `sample_rate`, with the data named by `needs`.

        Raises:
            EmptyClip: nothing to score (silence); the take is counted as empty, by name.
            ValueError: the take cannot be scored, with the reason; it is counted as failed, by name.
        """
        ...

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """Compute the numbers of a set.

        Args:
            takes: ids; all takes where None. A repeated id counts as often as it is given, as bootstrap needs it.

        Returns:
            Numbers by name.

        Raises:
            ValueError: no takes, or too few.
        """
        ...

    def per_take(self) -> dict[str, dict[str, float]]:
        """Compute the numbers of every single take.

        Returns:
            Take id -> numbers by name; empty for each take in a metric of sets.
        """
        ...


@runtime_checkable
class Embedder(Protocol):
    """A frozen network that embeds patches of audio, so that sets of clips can be compared as sets of points.

    Attributes:
        sample_rate: Hz, of the audio that `embed` takes.
        fingerprint: one line that determines the embeddings: name, version, hash of the weights, settings. Cached
            embeddings are found by it.
        provenance: one line for reports: the network, source and licence of its weights, the patches.
    """

    sample_rate: int
    fingerprint: str
    provenance: str

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """Embed a clip.

        Args:
            audio: [N] float32 in [-1, 1].

        Returns:
            [n, D] float32, one row a patch; D is constant.

        Raises:
            ValueError: audio shorter than a patch; names the length that is needed.
        """
        ...
