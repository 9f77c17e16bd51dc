"""Timelines: frame-by-frame conditions of a model, beside the audio.

    metronome   phase of a frame in its beat and its bar, and the lengths of these: a silent metronome
    chart       the chord that is to sound

Each is a vector a frame; all zeros mean that it is withheld, which is trained as well. The values are those of the
*output* frame, at the time at which it will sound, for any t_f. They come from a song's Annotations in training, and
from a count-in or a tracker when playing.
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
_TICK = 1e-6  # tolerance (s): a frame that begins with a beat is in it, up to rounding
USUAL = 0.5
"""Beat length (s) of tempo feature 0: 120 a minute."""

Values = np.ndarray


Source = Callable[[int, int], Values]
"""Timeline of a session: (first frame, n) -> [n, N]. It may be called for any frames, repeatedly."""

NO_TIMELINES: Mapping[str, Source] = MappingProxyType({})
"""Every timeline is withheld."""


@frozen
class Kind:
    """Type of a timeline.

    Attributes:
        width: numbers a frame.
        of: function from annotations and times of frames [n] (s) to [n, width] float32.
        detail: index of the first feature that may be unknown while the others are known.
    """

    width: int
    of: Callable[[Annotations, np.ndarray], Values]
    detail: int


def metronome(annotations: Annotations, times: np.ndarray) -> Values:
    """Compute the features [n, 16] at times [n] (s). With phi and psi the phases in beat and bar, 0 to 1:

    known, (sin, cos) 2 pi h phi for h = 1..4, 2 log2(beat / 0.5 s), bars known, (sin, cos) 2 pi h psi for h = 1, 2, and
    the beats of the bar less 4, over 4. (A silent metronome, arXiv 2609.07688.) The grid is extrapolated beyond its
    ends. Zeros where no beats are known, and for features of bars where no bars are.
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
    """Compute the features [n, 25] at times [n] (s): known, 12 pitch classes that sound, 12 of which one is the bass.

    Zeros where the chord is unknown; for a known silence ("N"), all but the first are zero.
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
    """Return a timeline of a kind for a session whose frame 0 is `start` seconds into the annotations."""
    of = KINDS[kind].of
    return lambda first, frames: of(annotations, frame_times(first, frames, frame_rate, start))


def sources(kinds: Iterable[str], annotations: Annotations, frame_rate: float, start: float = 0.0) -> dict[str, Source]:
    """Return the sources of those `kinds` that the annotations contain."""
    return {kind: source(kind, annotations, frame_rate, start) for kind in kinds if knows(annotations, kind)}


def knows(annotations: Annotations, kind: str) -> bool:
    """Test that the annotations contain a kind of timeline."""
    return {"metronome": annotations.beats is not None, "chart": bool(annotations.chords)}[kind]


def steady(beats_per_minute: float, beats_per_bar: int = 0, offset: float = 0.0) -> Annotations:
    """Return an unlimited grid of one tempo, with a downbeat at `offset` (s); 0 beats a bar: no bars."""
    beat = 60 / beats_per_minute
    table = {"by": "count-in", "beats": [offset + i * beat for i in range(max(beats_per_bar, 1) + 1)]}
    annotations, problems = read_annotations(table | ({"beats_per_bar": beats_per_bar} if beats_per_bar else {}))
    if problems:
        raise ValueError("; ".join(problems))
    return annotations


def beat_at(beats: Beats, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each time the number of its beat (below 0 and beyond the last too), the phase in it, its length (s).

    The grid is extrapolated beyond its ends.
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
    """Return for each time the number of its bar, 0 for the first whole one, and the phase in it, 0 to 1.

    The grid is extrapolated beyond its ends; bars before the first whole one have negative numbers.
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
    """Return the times (s) at which frames first .. first + frames - 1 begin, where frame 0 begins at `start`."""
    return start + (first + np.arange(frames)) / frame_rate


def _in_bar(beats: Beats, beat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of beats in their bars and the bars' beats; extrapolated beyond the ends."""
    bar, meter = np.asarray(beats.bar), np.asarray(beats.meter)
    near = np.clip(beat, 0, len(bar) - 1)
    return (bar[near] + beat - near) % meter[near], meter[near]


def _circles(phase: np.ndarray, harmonics: int) -> np.ndarray:
    """Return sine and cosine of 2 pi h phase [n], h by h [n, 2 * harmonics]."""
    angle = 2 * math.pi * phase[:, None] * np.arange(1, harmonics + 1)
    return np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(len(phase), -1)
