"""Songs generated from the grooves of mma (Musical MIDI Accompaniment, B. van der Poel, GPL-2+), a Debian package.

A groove is a band accompaniment in some style; a groove file has several of one style. A song is a form of sections
(such as AABA) that each repeat four chords, one per bar, in a key and a tempo; section B may use another groove of the
file. mma writes the notes with its own seed, so every song is reproducible.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mido
import numpy as np
from attrs import frozen

from accomp.core.errors import DataError
from accomp.plugins.corpora.mini_slakh.composer import NOTES, Composition
from accomp.plugins.corpora.mini_slakh.midi import MidiError

PACKAGE = "mma"
LICENCE = "GPL-2.0-or-later"
SHORTEST = 100.0
"""Shortest planned song (s)."""

_TIMEOUT = 120  # s for one song; mma needs 0.5 s
_TEMPOS = (70, 160)  # beats per minute
_FORMS = ("AABA", "AABB", "ABAB", "AAAA", "ABAC")
_PROGRESSIONS = {  # mode -> chords: semitones above the tonic, and quality
    "major": (
        "0 7:7 9:m 5",
        "0 9:m 5 7:7",
        "0 5 7:7 5",
        "9:m 5 0 7:7",
        "0 0 5 7:7",
        "2:m 7:7 0 9:m",
        "0 4:m 5 7:7",
        "0 5 9:m 7:7",
        "5 7:7 4:m 9:m",
        "2:m 7:7 0 0",
        "0 5 0 7:7",
    ),
    "minor": (
        "0:m 8 3 10",
        "0:m 5:m 7:7 0:m",
        "0:m 10 8 7:7",
        "0:m 5:m 10 3",
        "0:m 0:m 5:m 7:7",
        "0:m 8 5:m 7:7",
        "2:m7b5 7:7 0:m 0:m",
    ),
}
_RICHER = {"": ("M7", "6", ""), "m": ("m7",)}  # replacements in songs with sevenths
_HARTE = {"": "maj", "m": "min", "7": "7", "M7": "maj7", "6": "maj6", "m7": "min7", "m7b5": "hdim7"}
_NO_SECTION = re.compile(r"(Intro|End|Fill|-\d+$)", re.IGNORECASE)
_NO_BAND = ("metronome", "none")


@frozen
class GrooveFile:
    """A file of the library: its `name` without suffix, its `grooves`, and the `beats` (quarter notes) per bar."""

    name: str
    grooves: tuple[str, ...]
    beats: int


@frozen
class Sketch:
    """Input of mma for a song.

    Attributes:
        style: the groove file's name.
        text: source for mma; marks the start of every bar and the end.
        chords: one per bar, in the syntax of C. Harte et al. (ISMIR 2005): "C:maj7".
        sections: (letter, bars), in order.
        facts: key, tempo, form and grooves.
    """

    style: str
    text: str
    chords: tuple[str, ...]
    sections: tuple[tuple[str, int], ...]
    facts: dict[str, Any]


def library(folder: Path) -> list[GrooveFile]:
    """Return the groove files of the unpacked package by name. Raises DataError for none."""
    where = _home(folder) / "lib" / "stdlib"
    found = [_groove_file(path) for path in sorted(where.glob("*.mma")) if not path.stem.startswith(_NO_BAND)]
    files = [file for file in found if file.grooves]
    if not files:
        raise DataError(f"Debian package mma holds no grooves; delete its folder and run again @ {where}")
    return files


def group_of(style: str) -> str:
    """Return the split key of all songs of a groove file: a hash (hex) of its name."""
    return hashlib.sha256(f"mma groove file {style}".encode()).hexdigest()


def sketch(files: Sequence[GrooveFile], seed: int, number: int) -> Sketch:
    """Plan song `number` of the sequence of `seed`; deterministic for the same files."""
    rng = np.random.default_rng([seed, number])
    file = files[int(rng.integers(len(files)))]
    grooves = [file.grooves[int(i)] for i in rng.integers(len(file.grooves), size=2)]
    tempo = int(rng.integers(*_TEMPOS))
    tonic = int(rng.integers(12))
    mode = "minor" if rng.random() < 0.4 else "major"
    richer = bool(rng.random() < 0.4)
    form = str(rng.choice(_FORMS))
    phrases = {letter: _phrase(rng, tonic, mode, richer=richer) for letter in "ABC"}
    repeats = int(rng.integers(1, 3))
    sections = [(letter, 4 * repeats) for letter in form * _rounds(form, repeats, file.beats, tempo)]
    bars = [(letter, chord) for letter, count in sections for chord in phrases[letter] * (count // 4)]
    lines = [f"RndSeed {rng.integers(2**31)}", f"Use stdlib/{file.name}.mma", f"Tempo {tempo}"]
    lines += [*_played(bars, grooves), "MidiMark end", ""]
    facts = {"key": f"{NOTES[tonic]}:{mode}", "tempo": tempo, "form": form, "grooves": list(dict.fromkeys(grooves))}
    chords = tuple(f"{root}:{_HARTE[quality]}" for _, (root, quality) in bars)
    return Sketch(file.name, "\n".join(lines), chords, tuple(sections), facts)


def play(song: Sketch, folder: Path) -> Composition:
    """Generate MIDI by mma, run by this Python from the unpacked package, with annotations.

    Annotations: the sketch's facts, `meter` ("3/4"), `beats_per_bar`, `beats` (s; quarter notes as in mma, also in
    6/8), `downbeats` (s), `chords` and `sections` ([start, end, name], s). Raises MidiError if mma rejects the song.
    """
    with tempfile.TemporaryDirectory(prefix="accomp-mma-") as work:
        (Path(work) / "song.mma").write_text(song.text)
        said = _run(folder, Path(work))
        written = Path(work) / "song.mid"
        if not written.is_file():
            raise MidiError(f"mma wrote no MIDI: {said}")
        data = written.read_bytes()
    return Composition(data, song.facts | _timing(song, data))


def _home(folder: Path) -> Path:
    return folder / "usr" / "share" / "mma"


def _groove_file(path: Path) -> GrooveFile:
    text = path.read_text(errors="replace")
    names = re.findall(r"^\s*DefGroove\s+(\S+)", text, re.MULTILINE | re.IGNORECASE)
    beats = re.search(r"^\s*Time\s+(\d+)", text, re.MULTILINE | re.IGNORECASE)
    grooves = dict.fromkeys(name for name in names if not _NO_SECTION.search(name))
    return GrooveFile(path.stem, tuple(grooves), int(beats[1]) if beats else 4)


def _phrase(rng: np.random.Generator, tonic: int, mode: str, *, richer: bool) -> list[tuple[str, str]]:
    """Draw four chords: (root, quality in mma syntax)."""
    choices = _PROGRESSIONS[mode]
    chords = []
    for step, _, quality in (chord.partition(":") for chord in choices[int(rng.integers(len(choices)))].split()):
        if richer and quality in _RICHER:
            quality = str(rng.choice(_RICHER[quality]))
        chords.append((NOTES[(tonic + int(step)) % 12], quality))
    return chords


def _played(bars: Sequence[tuple[str, tuple[str, str]]], grooves: Sequence[str]) -> Iterator[str]:
    """Return the mma lines for bars (section letter, chord); the second of two grooves is for section B."""
    playing = None
    for number, (letter, chord) in enumerate(bars, start=1):
        if (groove := grooves[letter == "B"]) != playing:
            yield f"Groove {groove}"
            playing = groove
        yield from ("MidiMark bar", f"{number} {''.join(chord)}")


def _rounds(form: str, repeats: int, beats: int, tempo: int) -> int:
    """Return the fewest repetitions of a form that last SHORTEST."""
    return int(-(-SHORTEST // (len(form) * 4 * repeats * beats * 60 / tempo)))


def _run(folder: Path, work: Path) -> str:
    """Run mma without the user's start-up file; return its output for messages."""
    command = [sys.executable, str(folder / "usr" / "bin" / "mma"), "-i", os.devnull, "-f", "song.mid", "song.mma"]
    own = {"MMA_HOME": str(_home(folder)), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=work, env={**os.environ, **own}, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MidiError(f"mma did not finish within {_TIMEOUT} s") from error
    said = " ".join((done.stdout + done.stderr).split())[-300:]
    if done.returncode:
        raise MidiError(f"mma: exit status {done.returncode}: {said}")
    return said


def _timing(song: Sketch, data: bytes) -> dict[str, Any]:
    file = mido.MidiFile(file=io.BytesIO(data))
    marks, tempos, meters = _meta(file)
    if len(marks) != len(song.chords) + 1 or len(tempos) != 1 or len(meters) != 1:
        raise MidiError(
            f"mma wrote {len(marks)} marks, {len(tempos)} tempos and {len(meters)} metres; expected "
            f"{len(song.chords) + 1} marks, one tempo and one metre"
        )
    beat = tempos[0] / 1e6
    times = [tick / file.ticks_per_beat * beat for tick in marks]
    bars = list(itertools.pairwise(times))
    beats = [start + i * beat for start, end in bars for i in range(round((end - start) / beat))]
    starts = np.cumsum([0, *(count for _, count in song.sections)])
    return {
        "by": "mma",
        "meter": meters.pop(),
        "beats_per_bar": round((times[1] - times[0]) / beat),
        "beats": [round(time, 6) for time in beats],
        "downbeats": [round(start, 6) for start, _ in bars],
        "chords": [
            [round(start, 6), round(end, 6), name] for (start, end), name in zip(bars, song.chords, strict=True)
        ],
        "sections": [
            [round(times[first], 6), round(times[first + count], 6), letter]
            for first, (letter, count) in zip(starts, song.sections, strict=False)
        ],
    }


def _meta(file: mido.MidiFile) -> tuple[list[int], list[int], set[str]]:
    """Return the ticks of the marks, tempos (microseconds per quarter note) and metres."""
    marks, tempos, meters = [], [], set()
    for track in file.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "marker":
                marks.append(tick)
            elif message.type == "set_tempo":
                tempos.append(message.tempo)
            elif message.type == "time_signature":
                meters.add(f"{message.numerator}/{message.denominator}")
    return sorted(marks), tempos, meters
