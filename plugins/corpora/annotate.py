"""`accomp corpus annotate`: estimate beats, bars and chords from the mix for songs without annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from attrs import define, field

from accomp.core.audio.io import read, resample
from accomp.core.audio.loudness import silent
from accomp.core.console import progress, say
from accomp.core.errors import DataError
from accomp.core.files import write_atomic
from accomp.core.music.annotations import read_annotations
from accomp.core.registry import Registry
from accomp.core.spec.build import corpus_at
from accomp.core.types import Track
from accomp.plugins.corpora.listeners import BeatThis, Listener, MadmomBeats, MadmomChords

SHORTEST = 5.0
"""Shortest song (s); tempo estimation needs this length."""
METADATA = "metadata.yaml"
TRACKED = "tracked"
"""Key that names estimated annotations and their tracker; all others are ground truth."""
BEATS = ("beats", "downbeats", "beats_per_bar", "bar", "meter")
"""Annotation keys of each group."""


class Beats(StrEnum):
    """Beat trackers."""

    madmom = "madmom"
    beat_this = "beat_this"
    none = "none"


class Chords(StrEnum):
    """Chord trackers."""

    madmom = "madmom"
    none = "none"


def annotate(
    root: Annotated[Path, typer.Argument(help="The folder of a corpus in the layout of slakh2100.")],
    beats: Annotated[Beats, typer.Option(help="Tracker of beats and bars for songs without.")] = Beats.madmom,
    chords: Annotated[Chords, typer.Option(help="Tracker of chords for songs without.")] = Chords.madmom,
    weights: Annotated[str, typer.Option(help="With --beats beat_this: the path of its checkpoint.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Replace earlier estimates; ground truth is kept.")] = False,
) -> None:
    """Estimate missing beats and chords from the mix of each song and write them to its metadata.

    Ground truth is never replaced. An interrupted command resumes. `accomp ingest` then reads the annotations.
    """
    listeners = _listeners(beats, chords, weights)
    if not listeners:
        raise DataError("nothing to estimate @ --beats none --chords none")
    for name, listener in listeners.items():
        say(f"{name}: {listener.by} (weights: {listener.licence})")
    corpus = corpus_at(root, "slakh2100", (), Registry())
    count = _Count(list(listeners))
    for split in corpus.splits:
        try:
            with progress(f"annotating {split}", None) as advance:
                for track in corpus.tracks(split):
                    _annotate(track, root.expanduser() / split / track.id / METADATA, listeners, count, again=again)
                    advance(1, note=track.id)
        except DataError as error:
            count.problems += error.problems
    for line in [*dict.fromkeys([*corpus.problems, *count.problems]), *count.describe()]:
        say(line)
    if not count.songs:
        raise DataError(f"no song could be read @ {root}")


@define
class _Count:
    """Counts by annotation ("beats", "chords")."""

    names: list[str]
    songs: int = 0
    known: Counter[str] = field(factory=Counter)
    written: Counter[str] = field(factory=Counter)
    problems: list[str] = field(factory=list)

    def describe(self) -> list[str]:
        return [
            f"{name} of {self.songs} songs: {self.written[name]} estimated, {self.known[name]} annotated before, "
            f"{self.songs - self.written[name] - self.known[name]} without"
            for name in self.names
        ]


def _listeners(beats: Beats, chords: Chords, weights: str) -> dict[str, Listener]:
    found: dict[str, Listener] = {}
    if beats != Beats.none:
        found["beats"] = MadmomBeats() if beats == Beats.madmom else BeatThis(weights)
    if chords != Chords.none:
        found["chords"] = MadmomChords()
    return found


def _annotate(track: Track, path: Path, listeners: Mapping[str, Listener], count: _Count, *, again: bool) -> None:
    """Estimate and write the missing annotations of a song."""
    count.songs += 1
    metadata = yaml.safe_load(path.read_bytes())
    table = metadata.get("annotations") or {}
    missing = [name for name in listeners if not table.get(name) or (again and name in table.get(TRACKED, {}))]
    count.known.update(name for name in listeners if name not in missing)
    if not missing:
        return
    try:
        sound, rate = _mix(track)
    except DataError as error:
        count.problems += error.problems
        return
    if len(sound) < SHORTEST * rate or silent(sound):
        why = "it is silent" if silent(sound) else f"it lasts {len(sound) / rate:.1f} s, {SHORTEST:g} s are needed"
        count.problems.append(f"{' and '.join(missing)} not estimated: {why} @ {path.parent}")
        return
    for name in missing:
        heard = listeners[name].hear(resample(sound, rate, listeners[name].rate))
        heard, why = _held(name, heard, len(sound) / rate)
        if heard:
            table = _with(table, name, heard, listeners[name].by)
            count.written[name] += 1
        if why:
            count.problems.append(f"{why} @ {path.parent}")
    if any(name in table.get(TRACKED, {}) for name in missing):
        metadata["annotations"] = table
        write_atomic(path, yaml.safe_dump(metadata, allow_unicode=True, sort_keys=False))


def _mix(track: Track) -> tuple[np.ndarray, int]:
    """Return the sum of a song's stems [N], scaled into [-1, 1], and its rate (Hz). Raises DataError if unreadable."""
    rate = 44_100
    sounds = [read(stem.files, rate) for stem in track.stems.values()]
    length = max(map(len, sounds))
    mix = np.sum([np.pad(sound, (0, length - len(sound))) for sound in sounds], axis=0)
    return mix / max(1.0, float(np.abs(mix).max(initial=0.0))), rate


def _held(name: str, heard: dict[str, Any], seconds: float) -> tuple[dict[str, Any], str]:
    """Return the valid part of the estimates, and the reason for omissions."""
    if not heard:
        return {}, f"no {name} were found"
    problems = read_annotations(heard, seconds)[1]
    if not problems:
        return heard, ""
    without = {key: value for key, value in heard.items() if key != "downbeats"}
    if name == "beats" and not read_annotations(without, seconds)[1]:
        return without, f"bars were left out: {problems[0]}"
    return {}, f"{name} were left out: {problems[0]}"


def _with(table: Mapping[str, Any], name: str, heard: Mapping[str, Any], by: str) -> dict[str, Any]:
    """Return the annotations with the estimates of that name replaced."""
    replaced = BEATS if name == "beats" else (name,)
    kept = {key: value for key, value in table.items() if key not in replaced}
    tracked = {**table.get(TRACKED, {}), name: by}
    others = [said for said in str(table.get("by", "")).split("; ") if said and not said.startswith(f"{name}: ")]
    return {**kept, "by": "; ".join([*others, f"{name}: {by}"]), **heard, TRACKED: tracked}
