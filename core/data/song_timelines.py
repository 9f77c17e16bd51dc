"""Timelines of clips, from the annotations of stored songs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accomp.core.errors import DataError
from accomp.core.model.conditions import TimelineCondition
from accomp.core.music.annotations import read_annotations
from accomp.core.music.timelines import KINDS, frame_times, knows


class SongTimelines:
    """Timelines of some songs, for clips of them; withheld for a song without annotations."""

    def __init__(
        self,
        songs: Sequence[Mapping[str, Any]],
        timelines: Mapping[str, TimelineCondition],
        frame_rate: float,
        where: str,
    ):
        """songs: annotations of each as stored. `where` names them in errors.

        Raises DataError for timelines that no song has, unless they are always withheld anyway.
        """
        self._timelines, self._rate = tuple(timelines), frame_rate
        self._songs = [read_annotations(table)[0] for table in songs]
        self._known = {name: [knows(song, name) for song in self._songs] for name in self._timelines}
        nowhere = [name for name, known in self._known.items() if not any(known) and timelines[name].drop < 1]
        if nowhere:
            raise DataError(
                f"[conditions] {', '.join(nowhere)}: of none of {len(songs)} songs are "
                f"{' and '.join(_NEEDS[name] for name in nowhere)} known; `accomp ingest` has them from a corpus with "
                f"annotations, `accomp corpus annotate` finds them, and {{ drop = 1.0 }} does without @ {where}"
            )

    def of(self, song: int, start: int, frames: int) -> dict[str, np.ndarray]:
        """Return name -> [frames, N] float32 of a song's frames from `start` on."""
        return {name: self._values(name, song, start, frames) for name in self._timelines}

    def describe(self) -> list[str]:
        """Describe for how many songs each timeline is known."""
        return [
            f"{name}: {_NEEDS[name]} of {sum(known)} of {len(known)} songs are known"
            + ("" if all(known) else "; in clips of the others it is withheld")
            for name, known in self._known.items()
        ]

    def digest(self) -> bytes:
        """Hash all values of the timelines."""
        if not self._timelines:
            return b""
        return json.dumps([self._timelines, [song.table() for song in self._songs]], sort_keys=True).encode()

    def _values(self, name: str, song: int, start: int, frames: int) -> np.ndarray:
        return KINDS[name].of(self._songs[song], frame_times(start, frames, self._rate))


_NEEDS = {"metronome": "beats", "chart": "chords"}
