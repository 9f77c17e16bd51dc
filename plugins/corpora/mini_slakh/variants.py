"""Augmented variants of songs: other keys, tempos and sound fonts.

Only train songs have variants. A variant is determined by the options and its name: a hash of the name and the
instrument selects the sound font of each part.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from accomp.core.errors import DataError
from accomp.plugins.corpora.mini_slakh.composer import NOTES
from accomp.plugins.corpora.mini_slakh.midi import Event, Part, Song

FARTHEST = 12
"""Largest transposition (semitones)."""
TEMPOS = (0.5, 2.0)
"""Range of tempo factors."""
MOMENTS = ("beats", "downbeats")
"""Annotations that are lists of times (s)."""
SPANS = ("chords", "sections")
"""Annotations that are lists of [start, end, name] (s)."""


@frozen
class Variant:
    """Pitched parts `transpose` semitones higher, `tempo` times as fast. `fonts_only`: unchanged notes, other fonts."""

    transpose: int = 0
    tempo: float = 1.0
    fonts_only: bool = False

    @property
    def suffix(self) -> str:
        """Suffix of the song folder: "_transposed-3_tempo1.1"."""
        changed = [f"_transposed{self.transpose:+d}"] * (self.transpose != 0) + [f"_tempo{self.tempo}"] * (
            self.tempo != 1
        )
        return "".join(changed) or "_fonts"

    def font_of(self, song: str, part: Part, fonts: Sequence[Path]) -> Path:
        """Return the font of a part of the named song; not the first one if only fonts change."""
        choices = fonts[1:] if self.fonts_only else fonts
        drawn = hashlib.sha256(f"{song}{self.suffix}: {part.program}".encode()).digest()
        return choices[int.from_bytes(drawn[:8], "big") % len(choices)]


def variants_of(transpose: Sequence[int], tempo: Sequence[float], fonts: int) -> list[Variant]:
    """Return all combinations of transposition and tempo, including unchanged values, except the song itself.

    With several fonts and no other option, one variant. Raises DataError for values out of range.
    """
    _check(transpose, tempo)
    keys, speeds = dict.fromkeys((0, *transpose)), dict.fromkeys((1.0, *tempo))
    found = [Variant(key, speed) for key, speed in itertools.product(keys, speeds) if (key, speed) != (0, 1.0)]
    return found or [Variant(fonts_only=True)] * (fonts > 1)


def transposed(song: Song, semitones: int) -> Song:
    """Transpose all parts but drums by `semitones`; notes beyond the MIDI range move by an octave."""
    return evolve(song, parts=tuple(part if part.is_drum else _transposed(part, semitones) for part in song.parts))


def annotated(annotations: dict[str, Any], variant: Variant) -> dict[str, Any]:
    """Transform the annotations of a song to its variant: key, chords, tempo and times (s)."""
    known = dict(annotations)
    for key in MOMENTS:
        if key in known:
            known[key] = [time / variant.tempo for time in known[key]]
    for key in SPANS:
        if key in known:
            known[key] = [[start / variant.tempo, end / variant.tempo, name] for start, end, name in known[key]]
    if "chords" in known:
        known["chords"] = [[start, end, _renamed(name, variant.transpose)] for start, end, name in known["chords"]]
    if "key" in known:
        known["key"] = _renamed(known["key"], variant.transpose)
    if "tempo" in known and variant.tempo != 1:
        known["tempo"] = round(known["tempo"] * variant.tempo, 6)
    return known


def _check(transpose: Sequence[int], tempo: Sequence[float]) -> None:
    for semitones in transpose:
        if semitones == 0 or abs(semitones) > FARTHEST:
            raise DataError(f"--transpose {semitones}; expected semitones from -{FARTHEST} to {FARTHEST}, not 0")
    for factor in tempo:
        if not math.isfinite(factor) or factor == 1 or not TEMPOS[0] <= factor <= TEMPOS[1]:
            raise DataError(f"--tempo {factor}; expected a factor from {TEMPOS[0]:g} to {TEMPOS[1]:g}, not 1")


def _transposed(part: Part, semitones: int) -> Part:
    return evolve(part, events=tuple(_moved(event, semitones) for event in part.events))


def _moved(event: Event, semitones: int) -> Event:
    if event.part is None:
        return event
    note = event.message.note + semitones
    note += 12 * ((note < 0) - (note > 127))
    return event._replace(message=event.message.copy(note=note))


def _renamed(name: str, semitones: int) -> str:
    """ "C:min7" two semitones higher is "D:min7"."""
    root, _, rest = name.partition(":")
    return f"{NOTES[(NOTES.index(root) + semitones) % 12]}:{rest}"
