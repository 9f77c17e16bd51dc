"""MIDI files as multi-part songs: reading, trimming, cutting, fingerprints.

A part is one instrument: all notes of one General MIDI program on any tracks and channels, so that a doubled guitar is
one stem and never the context of itself; all drums are one part. Controllers and pitch bends of a channel belong to
every part on it.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import mido
from attrs import frozen

from accomp.core.music.instruments import CLASSES, DRUMS, from_program
from accomp.plugins.corpora.mini_slakh.grid import COMMON, Meter, Tempo, beats_and_downbeats

DRUM_CHANNEL = 9
SLAKH_DRUM_PROGRAM = 128
TAIL = 1.5
"""Release time (s) kept after the end of the last note."""
PLAYED_LATE = 0.03
"""Largest delay (s) of the first note after its beat."""

FARTHEST = 6 * 3600.0
"""Latest time (s) of a note in a file; later notes indicate damage."""
MOST_QUARTERS = 200_000
"""Latest position of a note in quarter notes: six hours at 555 per minute."""

_BASS = CLASSES.index("Bass")
_CHORDS = {CLASSES.index(name) for name in ("Piano", "Organ", "Guitar", "Strings", "Ensemble", "Synth Pad")}
_BANK_SELECT = (0, 32)
_SLOWEST = 2**24 - 1  # microseconds per quarter note: the MIDI limit


class MidiError(Exception):
    """Reason for skipping a file; reported and counted."""


class Event(NamedTuple):
    """A channel message at `tick` and `seconds` from the start. `part` is None for controllers of a channel."""

    tick: int
    seconds: float
    message: mido.Message
    part: int | None


@frozen
class Part:
    """One instrument. `program` is 0..127, or 128 for drums (as in Slakh2100); `events` in playing order."""

    program: int
    notes: int
    events: tuple[Event, ...]

    @property
    def is_drum(self) -> bool:
        return self.program == SLAKH_DRUM_PROGRAM

    @property
    def instrument(self) -> int:
        """Index into core.music.instruments.CLASSES."""
        return from_program(0, is_drum=True) if self.is_drum else from_program(self.program)


@frozen
class Song:
    """Simultaneous parts; the first note of all is at 0 s.

    Attributes:
        parts: ordered by program, drums last.
        seconds: length, including the release of the last note.
        resolution: ticks per quarter note.
        tempos: (tick, microseconds per quarter note), the first at tick 0.
        fingerprint: hash of the whole file's notes, see `read`.
        begin: position of 0 s of the song in the file (s).
        beats, downbeats: by the file's tempos and time signatures (s), see grid.py.
    """

    parts: tuple[Part, ...]
    seconds: float
    resolution: int
    tempos: tuple[tuple[int, int], ...]
    fingerprint: str
    begin: float
    beats: tuple[float, ...]
    downbeats: tuple[float, ...]

    @property
    def is_band(self) -> bool:
        """True if drums, bass and a chord instrument are present."""
        classes = {part.instrument for part in self.parts}
        return DRUMS in classes and _BASS in classes and bool(classes & _CHORDS)


def read(data: bytes, *, longest: float, tempo: float = 1.0) -> Song:
    """Parse a standard MIDI file and trim the silence before the first note.

    A song longer than `longest` (s) is cut to the excerpt of that length with most active parts: the parts with a note
    onset in each second are counted; the earliest maximum is taken, from a multiple of four beats.

    `tempo` is a factor on the written tempo.

    The fingerprint hashes onsets (in 24ths of a quarter note from the first one) and pitches (relative to the lowest
    one) of all notes but drums, so that transposed, re-orchestrated or faster copies are equal; for songs of drums only
    it hashes the drums. Raises MidiError for other formats, broken files, and files without notes.
    """
    events, tempos, meters, resolution = _played(_parse(data), tempo)
    onsets = [event for event in events if event.message.type == "note_on"]
    if not onsets:
        raise MidiError("no notes")
    fingerprint = _fingerprint(onsets, resolution)
    first = onsets[0]
    if _end(events) - first.seconds > longest:
        first = _densest(onsets, longest, 4 * resolution)
    grid = beats_and_downbeats(tempos, meters, resolution, events[-1].tick)
    events, tempos = _from(first, events, tempos)
    events, seconds = _cut(events, longest)
    moments = (_within(times, first.seconds, seconds) for times in grid)
    return Song(_parts(events), seconds, resolution, tuple(tempos), fingerprint, first.seconds, *moments)


def _parse(data: bytes) -> mido.MidiFile:
    if data[:4] == b"MUS\x1a":
        raise MidiError("a MUS score (DMX), not MIDI; convert it first")
    if data[:4] != b"MThd":
        raise MidiError(f"not a MIDI file: starts with {data[:4]!r}, expected b'MThd'")
    try:
        file = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except Exception as error:  # mido raises EOFError, KeyError, ValueError, ...
        raise MidiError(f"broken MIDI: {str(error) or type(error).__name__}") from error
    if file.type == 2:
        raise MidiError("MIDI type 2 (independent patterns); expected type 0 or 1")
    if file.ticks_per_beat <= 0:
        raise MidiError(f"time division {file.ticks_per_beat}; expected ticks per quarter note")
    return file


def _within(times: list[float], begin: float, seconds: float) -> tuple[float, ...]:
    """Return the `times` within the song, relative to its start; one just before the first note is set to 0."""
    moved = (time - begin for time in times)
    return tuple(round(max(time, 0.0), 6) for time in moved if -PLAYED_LATE <= time < seconds)


def _played(file: mido.MidiFile, factor: float) -> tuple[list[Event], list[Tempo], list[Meter], int]:
    """Return the events of all tracks in order; notes belong to the part that starts them, and all are ended."""
    messages: list[tuple[int, mido.Message]] = []
    for track in file.tracks:
        tick = 0
        for message in track:
            tick += message.time
            messages.append((tick, message))
    messages.sort(key=lambda pair: pair[0])  # stable: keeps the order within a tick

    events: list[Event] = []
    tempos: list[Tempo] = [(0, round(500_000 / factor))]
    meters: list[Meter] = [COMMON]
    since, start = 0.0, 0  # seconds and tick of the last tempo change
    programs: dict[int, int] = defaultdict(int)
    sounding: dict[tuple[int, int], list[int]] = defaultdict(list)
    last = 0
    for number, (tick, message) in enumerate(messages):
        seconds = since + (tick - start) * tempos[-1][1] / 1e6 / file.ticks_per_beat
        if seconds > FARTHEST or tick > MOST_QUARTERS * file.ticks_per_beat:
            _refuse_notes((far for _, far in messages[number:]), seconds, tick / file.ticks_per_beat)
            break  # no audible events remain
        last = tick
        if message.type == "set_tempo":
            since, start = seconds, tick
            tempos.append((tick, min(round(message.tempo / factor), _SLOWEST)))
        elif message.type == "time_signature":
            meters = [*(meter for meter in meters if meter[0] < tick), (tick, message.numerator, message.denominator)]
        elif message.type in ("note_on", "note_off"):
            key = (message.channel, message.note)
            if message.type == "note_on" and message.velocity:
                part = SLAKH_DRUM_PROGRAM if message.channel == DRUM_CHANNEL else programs[message.channel]
                sounding[key].append(part)
                events.append(Event(tick, seconds, message, part))
            elif sounding[key]:
                off = message if message.type == "note_off" else _off(*key)
                events.append(Event(tick, seconds, off, sounding[key].pop(0)))
        elif message.type == "program_change" and message.channel != DRUM_CHANNEL:
            programs[message.channel] = message.program
        elif message.type in ("program_change", "pitchwheel") or (
            message.type == "control_change" and message.control not in _BANK_SELECT
        ):
            events.append(Event(tick, seconds, message, None))
    for key, owners in sounding.items():
        events.extend(Event(last, seconds, _off(*key), part) for part in owners)
    return events, tempos, meters, file.ticks_per_beat


def _refuse_notes(messages: Iterable[mido.Message], seconds: float, quarters: float) -> None:
    """Raise MidiError if a note is among messages this far from the start or later."""
    if any(message.type == "note_on" and message.velocity for message in messages):
        raise MidiError(
            f"a note {seconds / 3600:.3g} hours ({quarters:.3g} quarter notes) from the beginning; expected at most "
            f"{FARTHEST / 3600:g} hours and {MOST_QUARTERS:,} quarter notes"
        )


def _off(channel: int, note: int) -> mido.Message:
    return mido.Message("note_off", channel=channel, note=note)


def _densest(onsets: list[Event], longest: float, grid: int) -> Event:
    """Return the first onset of the excerpt of `longest` seconds with most active parts; see `read`."""
    start = onsets[0].seconds
    playing = sorted({(int(event.seconds - start), event.part) for event in onsets})
    count = [0] * (playing[-1][0] + 1)
    for second, _ in playing:
        count[second] += 1
    length = max(int(longest), 1)
    total = [sum(count[second : second + length]) for second in range(max(len(count) - length, 0) + 1)]
    best = start + total.index(max(total))
    near = next(event for event in onsets if event.seconds >= best)
    return next(event for event in onsets if event.tick >= near.tick // grid * grid)


def _from(
    first: Event, events: list[Event], tempos: list[tuple[int, int]]
) -> tuple[list[Event], list[tuple[int, int]]]:
    """Shift the time origin to the note `first`: earlier controllers move to 0, earlier notes are dropped."""
    kept: list[Event] = []
    sounding: dict[tuple[int, int], list[int]] = defaultdict(list)
    for event in events:
        early = event.tick < first.tick
        if event.part is not None:
            owners = sounding[event.message.channel, event.message.note]
            if early:
                continue
            if event.message.type == "note_on":
                owners.append(event.part)
            elif event.part in owners:
                owners.remove(event.part)
            else:
                continue  # end of a dropped note
        seconds = max(event.seconds - first.seconds, 0.0)
        kept.append(event._replace(tick=max(event.tick - first.tick, 0), seconds=seconds))
    before = [(0, tempo) for tick, tempo in tempos if tick <= first.tick]
    return kept, before[-1:] + [(tick - first.tick, tempo) for tick, tempo in tempos if tick > first.tick]


def _cut(events: list[Event], longest: float) -> tuple[list[Event], float]:
    """Return the events before `longest`, with sounding notes ended at its last tick, and the length (s)."""
    if _end(events) <= longest:
        return events, _end(events)
    kept = [event for event in events if event.seconds < longest]
    sounding: dict[tuple[int, int], list[int]] = defaultdict(list)
    for event in kept:
        if event.part is not None:
            key = (event.message.channel, event.message.note)
            if event.message.type == "note_on":
                sounding[key].append(event.part)
            else:
                sounding[key].remove(event.part)
    for key, owners in sounding.items():
        kept.extend(Event(kept[-1].tick, longest, _off(*key), part) for part in owners)
    return kept, longest


def _end(events: list[Event]) -> float:
    """Return the end of the last note plus its release (s)."""
    return max(event.seconds for event in events if event.part is not None) + TAIL


def _parts(events: list[Event]) -> tuple[Part, ...]:
    parts = []
    for program in sorted({event.part for event in events if event.part is not None}):
        own = [event for event in events if event.part == program]
        channels = {event.message.channel for event in own}
        heard = tuple(e for e in events if e.part == program or (e.part is None and e.message.channel in channels))
        parts.append(Part(program, sum(event.message.type == "note_on" for event in own), heard))
    return tuple(parts)


def _fingerprint(onsets: list[Event], resolution: int) -> str:
    pitched = [event for event in onsets if event.part != SLAKH_DRUM_PROGRAM] or onsets
    start = pitched[0].tick
    lowest = min(event.message.note for event in pitched)
    notes = sorted({((e.tick - start) * 24 // resolution, e.message.note - lowest) for e in pitched})
    return hashlib.sha256(repr(notes).encode()).hexdigest()
