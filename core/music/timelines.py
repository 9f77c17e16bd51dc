"""Timelines: what a model is told frame by frame of the time at which it plays, beside the audio that it hears.

    metronome   where a frame lies in its beat and its bar, and how fast and how long these are: a silent one
    chart       the chord that is to sound

Each is some numbers a frame; all zeros mean that it is withheld, which a model learns as well. They are those of the
frame that is *played*, at the time at which it will sound, however far ahead of its input a model plays. Numbers come
from a song's Annotations in training, and from whoever counts in when playing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import numpy as np
from attrs import frozen

from accomp.core.music.annotations import Annotations, Beats, read_annotations
from accomp.core.music.chords import chord_named

BEAT_HARMONICS, BAR_HARMONICS = 4, 2
_TICK = 1e-6  # s: a frame that begins with a beat is in it, whatever the last digit of either says
USUAL = 0.5
"""Seconds of a beat whose tempo is 0: 120 a minute."""

Values = np.ndarray


Source = Callable[[int, int], Values]
"""What a session is told of frames: the number of the first, how many n -> [n, N]. It may be asked of any, again."""

NOT_TOLD: Mapping[str, Source] = MappingProxyType({})
"""Every timeline is withheld."""


@frozen
class Kind:
    """Attributes:
    width: numbers a frame.
    of: annotations, times of frames [n] (s) -> [n, width] float32.
    detail: the first of the numbers that tell what need not be known with the rest.
    """

    width: int
    of: Callable[[Annotations, np.ndarray], Values]
    detail: int


def metronome(annotations: Annotations, times: np.ndarray) -> Values:
    """times [n] (s) -> [n, 16]: with phi and psi the phases in beat and bar, 0 to 1,

    known, (sin, cos) 2 pi h phi for h = 1..4, 2 log2(beat / 0.5 s), bars known, (sin, cos) 2 pi h psi for h = 1, 2, and
    the beats of the bar less 4, over 4. (A silent metronome, arXiv 2609.07688.) The grid goes on beyond its ends as it
    is there. Zeros where no beats are known, and for what is about bars where no bars are.
    """
    values = np.zeros((len(times), WIDTHS["metronome"]), np.float32)
    if annotations.beats is None:
        return values
    beat, phase, length = beat_at(annotations.beats, np.asarray(times, dtype=np.float64))
    values[:, 0] = 1
    values[:, 1:9] = _circles(phase, BEAT_HARMONICS)
    values[:, 9] = 2 * np.log2(length / USUAL)
    if annotations.beats.bar:
        place, meter = _in_bar(annotations.beats, beat)
        values[:, 10] = 1
        values[:, 11:15] = _circles((place + phase) / meter, BAR_HARMONICS)
        values[:, 15] = (meter - 4) / 4
    return values


def chart(annotations: Annotations, times: np.ndarray) -> Values:
    """times [n] (s) -> [n, 25]: known, 12 pitch classes that sound, 12 of which one is the bass.

    Zeros where no chord is known; where it is known that none sounds ("N"), all but the first are.
    """
    values = np.zeros((len(times), WIDTHS["chart"]), np.float32)
    if annotations.chords:
        starts = np.array([span.start for span in annotations.chords])
        ends = np.array([span.end for span in annotations.chords])
        at = np.searchsorted(starts, times, side="right") - 1
        inside = (at >= 0) & (np.asarray(times) < ends[at])
        rows = np.array([[1.0, *chord_named(span.chord).values()] for span in annotations.chords], np.float32)
        values[inside] = rows[at[inside]]
    return values


WIDTHS: Mapping[str, int] = MappingProxyType({"metronome": 16, "chart": 25})
KINDS: Mapping[str, Kind] = MappingProxyType(
    {"metronome": Kind(WIDTHS["metronome"], metronome, 10), "chart": Kind(WIDTHS["chart"], chart, WIDTHS["chart"])}
)


def source(kind: str, annotations: Annotations, frame_rate: float, start: float = 0.0) -> Source:
    """A timeline of that kind for a session whose frame 0 begins `start` seconds into what is annotated."""
    of = KINDS[kind].of
    return lambda first, frames: of(annotations, frame_times(first, frames, frame_rate, start))


def sources(kinds: Iterable[str], annotations: Annotations, frame_rate: float, start: float = 0.0) -> dict[str, Source]:
    """Those of `kinds` of which the annotations know something, as `source` has them."""
    return {kind: source(kind, annotations, frame_rate, start) for kind in kinds if knows(annotations, kind)}


def knows(annotations: Annotations, kind: str) -> bool:
    """Whether the annotations say something of that kind."""
    return {"metronome": annotations.beats is not None, "chart": bool(annotations.chords)}[kind]


def steady(beats_per_minute: float, beats_per_bar: int = 0, offset: float = 0.0) -> Annotations:
    """A grid of one tempo that goes on for ever, with a downbeat at `offset` (s); 0 beats a bar: no bars are known."""
    beat = 60 / beats_per_minute
    table = {"by": "count-in", "beats": [offset + i * beat for i in range(max(beats_per_bar, 1) + 1)]}
    annotations, problems = read_annotations(table | ({"beats_per_bar": beats_per_bar} if beats_per_bar else {}))
    if problems:
        raise ValueError("; ".join(problems))
    return annotations


def beat_at(beats: Beats, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each time: the number of its beat (below 0 and beyond the last too), how far it is in it, its length (s).

    Beyond its ends the grid goes on as it is there.
    """
    grid, times = np.asarray(beats.times), times + _TICK
    lengths = np.diff(grid)
    beat = np.searchsorted(grid, times, side="right") - 1
    inside = np.clip(beat, 0, len(lengths) - 1)
    length = lengths[inside]
    since = (times - grid[inside]) / length
    whole = np.floor(since)
    return (inside + whole).astype(np.int64), since - whole, length


def bar_at(beats: Beats, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each time the number of its bar, 0 for the first whole one, and how far it is in it, 0 to 1.

    Beyond its ends the grid goes on as it is there; bars before the first whole one have numbers below 0.
    """
    beat, phase, _ = beat_at(beats, np.asarray(times, dtype=np.float64))
    bar = np.asarray(beats.bar)
    place, meter = _in_bar(beats, beat)
    downs = np.cumsum(bar == 0)
    near = np.clip(beat, 0, len(bar) - 1)
    beyond = np.where(beat >= len(bar), bar[near] + beat - near, 0) // meter
    before = np.where(beat < 0, (bar[0] + beat) // meter, 0)
    return downs[near] - 1 + beyond + before, (place + phase) / meter


def frame_times(first: int, frames: int, frame_rate: float, start: float = 0.0) -> np.ndarray:
    """When frames first .. first + frames - 1 begin (s), where frame 0 begins at `start`."""
    return start + (first + np.arange(frames)) / frame_rate


def _in_bar(beats: Beats, beat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of beats -> their place in the bar and its beats; beyond the ends bars are as long as there."""
    bar, meter = np.asarray(beats.bar), np.asarray(beats.meter)
    near = np.clip(beat, 0, len(bar) - 1)
    return (bar[near] + beat - near) % meter[near], meter[near]


def _circles(phase: np.ndarray, harmonics: int) -> np.ndarray:
    """phase [n] -> sine and cosine of 2 pi h phase, h by h [n, 2 * harmonics]."""
    angle = 2 * math.pi * phase[:, None] * np.arange(1, harmonics + 1)
    return np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(len(phase), -1)
