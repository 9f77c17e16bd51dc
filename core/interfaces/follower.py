"""Interface of followers: beat and chord trackers that work on live audio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from accomp.core.music.annotations import Annotations


@runtime_checkable
class Follower(Protocol):
    """A causal tracker of beats or chords.

    It tracks one signal at a time. Its result depends only on the audio pushed since `begin`, not on how that was cut
    into blocks, and its memory is bounded by a recent part of that audio.

    Attributes:
        follows: the timeline that it estimates, "metronome" or "chart".
        fingerprint: one line that determines its results: library, version, settings. It is stored with takes.
        provenance: one line for people: the tracker, source and licence of its weights.
    """

    follows: str
    fingerprint: str
    provenance: str

    def begin(self) -> None:
        """Discard all state."""
        ...

    def push(self, audio: np.ndarray) -> None:
        """Process the next audio [n] float32 in [-1, 1], any n."""
        ...

    def known(self) -> Annotations:
        """Return the present estimate.

        Returns:
            Times in s from the first sample that was pushed; NOTHING before the first detection. "metronome": a beat
            grid, extrapolated at the present tempo. "chart": the chords of the last minutes; the last one ends where
            the analysis does, some time before the newest sample.
        """
        ...
