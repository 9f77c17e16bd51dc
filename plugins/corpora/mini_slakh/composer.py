"""Algorithmic composer for offline use: a band with known chords and beats.

A song has a key, a tempo, a metre of 3 or 4, a groove, and sections (verse, chorus, verse, chorus, bridge, chorus) that
each repeat four chords, one a bar. The instrumentation of drums, bass, keys, pad, guitar and lead varies by section.
Every beat and chord is known, which makes these songs suitable for tests; musically they are simple.
"""

from __future__ import annotations

import io
from typing import Any, TypeAlias, TypeVar

import mido
import numpy as np
from attrs import frozen

T = TypeVar("T")

LICENCE = "CC0-1.0"
SHORTEST = 60.0
"""Shortest composed song (s)."""

NOTES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
"""Names of the pitch classes, as in annotations."""
RESOLUTION = 480
_STEPS = 4  # steps per beat; patterns count steps from the start of a bar
_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 0, 4), (0, 2, 3, 4), (1, 4, 0, 0), (3, 0, 4, 5)),
    "minor": ((0, 5, 2, 6), (0, 6, 5, 4), (0, 3, 6, 2), (0, 5, 3, 4), (0, 0, 5, 6), (3, 0, 4, 0), (5, 6, 0, 0)),
}
_QUALITIES = {(4, 7): "maj", (3, 7): "min", (3, 6): "dim"}
_KICK, _RIM, _SNARE, _HAT, _OPEN, _CRASH, _RIDE, _TOMS = 36, 37, 38, 42, 46, 49, 51, (50, 47, 45, 43)
_GROOVES = {  # metre -> patterns: drum -> steps
    4: (
        {_KICK: (0, 8, 10), _SNARE: (4, 12), _HAT: (0, 2, 4, 6, 8, 10, 12, 14)},
        {_KICK: (0, 4, 8, 12), _SNARE: (4, 12), _HAT: (0, 4, 8, 12), _OPEN: (2, 6, 10, 14)},
        {_KICK: (0, 10), _SNARE: (8,), _HAT: (0, 2, 4, 6, 8, 10, 12, 14)},
        {_KICK: (0, 6, 8, 14), _RIM: (3, 6, 10, 12), _RIDE: (0, 2, 4, 6, 8, 10, 12, 14)},
        {_KICK: (0, 2, 10, 11), _SNARE: (4, 12), _HAT: tuple(range(16))},
    ),
    3: (
        {_KICK: (0,), _SNARE: (4, 8), _HAT: (0, 4, 8)},
        {_KICK: (0, 6), _SNARE: (8,), _RIDE: (0, 2, 4, 6, 8, 10)},
    ),
}
_BASS_LINES = {  # metre -> patterns of (step, chord tone: 0 root, 2 fifth, 3 octave)
    4: (
        ((0, 0), (4, 0), (8, 0), (12, 0)),
        ((0, 0), (2, 0), (4, 0), (6, 0), (8, 0), (10, 0), (12, 2), (14, 2)),
        ((0, 0), (3, 0), (6, 3), (8, 0), (11, 2), (14, 3)),
        ((0, 0), (6, 2), (8, 0), (14, 2)),
        ((0, 0), (2, 3), (4, 0), (6, 3), (8, 0), (10, 3), (12, 0), (14, 3)),
    ),
    3: (((0, 0), (4, 2), (8, 2)), ((0, 0), (6, 0), (8, 2)), ((0, 0),)),
}
_KEYS_HITS = {
    4: ((0, 8), (0, 4, 8, 12), (2, 6, 10, 14), (0, 3, 6, 10, 12), (0, 6, 12)),
    3: ((0, 4, 8), (0, 6), (4, 8)),
}
_PROGRAMS = {
    "keys": (0, 1, 4, 5, 7, 11, 12, 16, 17, 18),
    "bass": (32, 33, 34, 35, 36, 38, 39),
    "guitar": (24, 25, 26, 27, 28, 46),
    "pad": (48, 49, 50, 51, 52, 61, 89, 90, 92, 94),
    "lead": (22, 40, 56, 60, 65, 66, 68, 71, 73, 75, 80, 81, 82, 87, 104),
}
_CHANNELS = {"keys": 0, "bass": 1, "guitar": 2, "pad": 3, "lead": 4, "drums": 9}
_FORM = ("verse", "chorus", "verse", "chorus", "bridge", "chorus")
_BARS = 8


_Notes: TypeAlias = list[tuple[int, int, int, int]]  # step, length in steps, pitch, velocity
_Chords: TypeAlias = list[tuple[int, tuple[int, ...]]]  # root and triad as pitch classes, bar by bar


@frozen
class Composition:
    """A song as MIDI bytes, and its annotations: tempo, metre, key, beats (s), chords ([start, end, name])."""

    midi: bytes
    annotations: dict[str, Any]


@frozen
class _Section:
    chords: tuple[int, ...]  # degrees of the scale, one a bar
    playing: frozenset[str]
    groove: dict[int, tuple[int, ...]]
    bass: tuple[tuple[int, int], ...]
    hits: tuple[int, ...]
    motif: tuple[tuple[int, int], ...]  # (step, move on the scale) over two bars


def compose(seed: int, number: int) -> Composition:
    """Compose song `number` of the sequence of `seed`; deterministic."""
    rng = np.random.default_rng([seed, number])
    metre = 3 if rng.random() < 0.15 else 4
    tempo = int(rng.integers(80, 150))
    mode = str(rng.choice(("major", "minor")))
    tonic = int(rng.integers(12))
    sections = {name: _section(rng, mode, metre, name) for name in ("verse", "chorus", "bridge")}
    programs = {role: int(rng.choice(choices)) for role, choices in _PROGRAMS.items()}
    bars = _length(tempo, metre)
    plan = [sections[_FORM[bar // _BARS % len(_FORM)]] for bar in range(bars)]

    notes: dict[str, _Notes] = {role: [] for role in _CHANNELS}
    chords: _Chords = []
    voicing: tuple[int, ...] = (60, 64, 67)
    melody = 7
    for bar, section in enumerate(plan):
        degree = section.chords[bar % len(section.chords)]
        triad = tuple((tonic + _on_scale(mode, degree + third)) % 12 for third in (0, 2, 4))
        chords.append((triad[0], triad))
        voicing = _nearest_voicing(voicing, triad)
        start, length = bar * metre * _STEPS, metre * _STEPS
        last_of_section = bar % _BARS == _BARS - 1
        _drums(notes["drums"], section, start, length, rng, first=bar % _BARS == 0, fill=last_of_section)
        _bass(notes["bass"], section, start, length, triad, rng)
        _keys(notes["keys"], section, start, length, voicing, rng)
        if "pad" in section.playing:
            notes["pad"] += [(start, length, pitch, 62) for pitch in voicing]
        if "guitar" in section.playing:
            arpeggio = (*voicing, voicing[1])
            notes["guitar"] += [
                (start + s, 2, arpeggio[s // 2 % 4], int(rng.integers(60, 80))) for s in range(0, length, 2)
            ]
        melody = _lead(notes["lead"], section, start, length, bar, tonic, mode, degree, melody, rng)
    return Composition(_midi(notes, programs, tempo, metre), _annotations(tempo, metre, tonic, mode, chords))


def _length(tempo: int, metre: int) -> int:
    """Return the number of bars of the fewest whole sections that last SHORTEST."""
    section = _BARS * metre * 60 / tempo
    return _BARS * int(-(-SHORTEST // section))


def _section(rng: np.random.Generator, mode: str, metre: int, name: str) -> _Section:
    playing = {"drums", "bass", "keys"}
    if name == "bridge":
        playing -= {"drums"} if rng.random() < 0.5 else {"bass"}
    playing |= {role for role in ("pad", "guitar", "lead") if rng.random() < (0.9 if name == "chorus" else 0.5)}
    return _Section(
        chords=_pick(rng, _PROGRESSIONS[mode]),
        playing=frozenset(playing),
        groove=_pick(rng, _GROOVES[metre]),
        bass=_pick(rng, _BASS_LINES[metre]),
        hits=_pick(rng, _KEYS_HITS[metre]),
        motif=_motif(rng, 2 * metre * _STEPS),
    )


def _pick(rng: np.random.Generator, choices: tuple[T, ...]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _motif(rng: np.random.Generator, length: int) -> tuple[tuple[int, int], ...]:
    motif, step = [], 0
    while step < length - 2:
        motif.append((step, int(rng.choice((-2, -1, -1, 0, 1, 1, 2)))))
        step += int(rng.choice((2, 2, 3, 4, 4, 6, 8)))
    return tuple(motif)


def _on_scale(mode: str, degree: int) -> int:
    """Return the semitones of a scale degree above the tonic, octaves included."""
    return 12 * (degree // 7) + _SCALES[mode][degree % 7]


def _nearest_voicing(before: tuple[int, ...], triad: tuple[int, ...]) -> tuple[int, ...]:
    """Return the close-position triad between 53 and 74 that moves least from `before`."""
    inversions = [
        (root, root + (triad[(i + 1) % 3] - triad[i]) % 12, root + (triad[(i + 2) % 3] - triad[i]) % 12)
        for i in range(3)
        for root in range(53, 66)
        if root % 12 == triad[i]
    ]
    return min(inversions, key=lambda v: sum(abs(a - b) for a, b in zip(v, before, strict=True)))


def _drums(
    notes: _Notes, section: _Section, start: int, length: int, rng: np.random.Generator, *, first: bool, fill: bool
) -> None:
    if "drums" not in section.playing:
        return
    until = length - _STEPS if fill else length
    for drum, steps in section.groove.items():
        accent = 12 if drum in (_KICK, _SNARE) else 0
        notes += [(start + s, 1, drum, int(rng.integers(78, 96)) + accent) for s in steps if s < until]
    if fill:
        notes += [(start + until + i, 1, tom, 90 + 4 * i) for i, tom in enumerate(_TOMS)]
    if first:
        notes.append((start, 4, _CRASH, 95))


def _bass(
    notes: _Notes, section: _Section, start: int, length: int, triad: tuple[int, ...], rng: np.random.Generator
) -> None:
    if "bass" not in section.playing:
        return
    root = 28 + (triad[0] - 28) % 12
    fifth = (triad[2] - triad[0]) % 12
    ends = [step for step, _ in section.bass[1:]] + [length]
    for (step, tone), end in zip(section.bass, ends, strict=True):
        pitch = root + {0: 0, 2: fifth, 3: 12}[tone]
        notes.append((start + step, end - step, pitch, int(rng.integers(88, 104))))


def _keys(
    notes: _Notes, section: _Section, start: int, length: int, voicing: tuple[int, ...], rng: np.random.Generator
) -> None:
    ends = [*section.hits[1:], length]
    for step, end in zip(section.hits, ends, strict=True):
        velocity = int(rng.integers(68, 88))
        notes += [(start + step, end - step, pitch, velocity) for pitch in voicing]


def _lead(
    notes: _Notes,
    section: _Section,
    start: int,
    length: int,
    bar: int,
    tonic: int,
    mode: str,
    degree: int,
    at: int,
    rng: np.random.Generator,
) -> int:
    """Compose one bar of the section's two-bar motif: chord tones on the beat, steps of the scale between.

    `at` is the current degree of the melody; returns the next one.
    """
    if "lead" not in section.playing:
        return at
    offset = (bar % 2) * length
    own = [(step - offset, move) for step, move in section.motif if offset <= step < offset + length]
    ends = [step for step, _ in own[1:]] + [length]
    for (step, move), end in zip(own, ends, strict=True):
        at = min(max(at + move, 4), 16)
        if step % _STEPS == 0:
            at = min(range(4, 17), key=lambda d: (abs(d - at), d) if (d - degree) % 7 in (0, 2, 4) else (99, d))
        pitch = 60 + tonic % 12 - 12 * (tonic > 6) + _on_scale(mode, at)
        notes.append((start + step, end - step, pitch, int(rng.integers(84, 108))))
    return at


def _midi(notes: dict[str, _Notes], programs: dict[str, int], tempo: int, metre: int) -> bytes:
    file = mido.MidiFile(type=1, ticks_per_beat=RESOLUTION)
    file.tracks.append(
        mido.MidiTrack(
            [
                mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo)),
                mido.MetaMessage("time_signature", numerator=metre, denominator=4),
            ]
        )
    )
    ticks = RESOLUTION // _STEPS
    for role, played in notes.items():
        if not played:
            continue
        channel = _CHANNELS[role]
        events = []
        for step, steps, pitch, velocity in played:
            on, off = step * ticks, (step + steps) * ticks - ticks // 8
            events += [(on, "note_on", pitch, velocity), (off, "note_off", pitch, 0)]
        events.sort(key=lambda event: event[0])
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=role)])
        if role in programs:
            track.append(mido.Message("program_change", channel=channel, program=programs[role]))
        last = 0
        for tick, kind, pitch, velocity in events:
            track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=tick - last))
            last = tick
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def _annotations(tempo: int, metre: int, tonic: int, mode: str, chords: _Chords) -> dict[str, Any]:
    beat = mido.bpm2tempo(tempo) / 1e6  # s, with the rounding of the MIDI file
    bar = metre * beat
    names = [f"{NOTES[root]}:{_QUALITIES[(triad[1] - root) % 12, (triad[2] - root) % 12]}" for root, triad in chords]
    return {
        "by": "composer",
        "tempo": tempo,
        "beats_per_bar": metre,
        "key": f"{NOTES[tonic]}:{mode}",
        "beats": [round(i * beat, 6) for i in range(len(chords) * metre)],
        "chords": [[round(i * bar, 6), round((i + 1) * bar, 6), name] for i, name in enumerate(names)],
    }
