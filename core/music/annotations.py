"""Annotations of a song: beats and bars, chords, and their source.

A corpus gives them as a table, as `metadata.yaml` of a mini-slakh song has it:

    annotations:
      by: MIDI                              # source of the annotations
      beats: [0.0, 0.5, 1.0, 1.5, 2.0]      # s from the song's beginning
      downbeats: [0.0, 2.0]                 # the beats that begin a bar; or beats_per_bar: 4, from the first beat on
      chords: [[0.0, 2.0, "C:maj7"]]        # begin, end (s), name as C. Harte et al. write it (ISMIR 2005); "N": none

Other keys (key, tempo, form ...) are for people. This module is the only place where the table becomes an Annotations.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from attrs import evolve, frozen

from accomp.core.music.chords import chord_named

SHORTEST, LONGEST = 0.1, 5.0
"""Seconds from a beat to the next: 600 to 12 beats a minute."""
MOST_BEATS = 16
"""Largest number of beats of a bar."""
_APART = 0.02  # largest distance (s) of a downbeat from its beat
UNKNOWN = "unknown"


@frozen
class Beats:
    """A beat grid.

    Attributes:
        times: of the beats (s), ascending, two at least.
        bar: [n], number of each beat in its bar, 0 for the downbeat; empty where no bars are known.
        meter: [n], number of beats of each beat's bar; empty likewise.
    """

    times: tuple[float, ...]
    bar: tuple[int, ...] = ()
    meter: tuple[int, ...] = ()


@frozen
class Span:
    """A chord from `start` to `end` (s), by name."""

    start: float
    end: float
    chord: str


@frozen
class Annotations:
    """Beats and chords of a song.

    Attributes:
        beats: None where unknown.
        chords: in order, without overlap; empty where unknown.
        by: source of the annotations.
    """

    beats: Beats | None = None
    chords: tuple[Span, ...] = ()
    by: str = UNKNOWN

    def table(self) -> dict[str, Any]:
        """Return the JSON-able table that `read_annotations` reads; {} where nothing is known."""
        told: dict[str, Any] = {}
        if self.beats is not None:
            told["beats"] = list(self.beats.times)
            if self.beats.bar:
                told["bar"], told["meter"] = list(self.beats.bar), list(self.beats.meter)
        if self.chords:
            told["chords"] = [[span.start, span.end, span.chord] for span in self.chords]
        return {"by": self.by, **told} if told else {}

    def later(self, seconds: float) -> Annotations:
        """Shift the annotations by a number of seconds."""
        if not seconds:
            return self
        beats = None if self.beats is None else evolve(self.beats, times=tuple(t + seconds for t in self.beats.times))
        chords = tuple(evolve(span, start=span.start + seconds, end=span.end + seconds) for span in self.chords)
        return evolve(self, beats=beats, chords=chords)


NOTHING = Annotations()


def read_annotations(given: object, seconds: float = math.inf) -> tuple[Annotations, list[str]]:
    """Read the table of a song of `seconds` length; return it with a line for each invalid part.

    An invalid part counts as unknown. Beats a little past the end are cut off.
    """
    if not isinstance(given, Mapping):
        return NOTHING, [f"annotations is {given!r}; expected a table with beats, downbeats, chords"]
    problems: list[str] = []
    found: dict[str, Any] = {}
    for name, read in (("beats", _beats), ("chords", _chords)):
        if given.get(name):
            try:
                found[name] = read(given, seconds)
            except ValueError as error:
                problems.append(str(error))
    return Annotations(**found, by=str(given.get("by", UNKNOWN))), problems


def _beats(given: Mapping[str, Any], seconds: float) -> Beats:
    times = _ascending(given["beats"], "beats")
    if times[-1] > seconds + LONGEST:
        raise ValueError(f"beats go on to {times[-1]:.3f} s, the song ends at {seconds:.3f} s; they are another song's")
    inside = [time for time in times if time <= seconds]
    if len(inside) < 2:
        raise ValueError(f"{len(inside)} beats within the song; expected two or more")
    for before, after in pairwise(inside):
        if not SHORTEST <= after - before <= LONGEST:
            raise ValueError(
                f"from the beat at {before:.3f} s to the next are {after - before:.3f} s; expected {SHORTEST} to "
                f"{LONGEST} s (12 to 600 a minute)"
            )
    bar, meter = _bars(given, times)
    return Beats(tuple(inside), bar[: len(inside)], meter[: len(inside)])


def _bars(given: Mapping[str, Any], times: Sequence[float]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if "bar" in given:
        return _stated_bars(given, len(times))
    if "downbeats" in given:
        downs = [_nearest(times, time) for time in _ascending(given["downbeats"], "downbeats", least=1)]
    elif "beats_per_bar" in given:
        each = given["beats_per_bar"]
        if isinstance(each, bool) or not isinstance(each, int) or not 1 <= each <= MOST_BEATS:
            raise ValueError(f"beats_per_bar is {each!r}; expected 1 to {MOST_BEATS}")
        downs = list(range(0, len(times), each)) if len(times) > each else []
        if not downs:
            return tuple(range(len(times))), (each,) * len(times)
    else:
        return (), ()
    lengths = [after - before for before, after in pairwise(downs)]
    if not lengths:
        return (), ()
    if max(lengths) > MOST_BEATS or min(lengths) < 1:
        wrong = next(i for i, n in enumerate(lengths) if not 1 <= n <= MOST_BEATS)
        raise ValueError(
            f"the bar at {times[downs[wrong]]:.3f} s has {lengths[wrong]} beats; expected 1 to {MOST_BEATS}"
        )
    return _counted(downs, lengths, len(times))


def _stated_bars(given: Mapping[str, Any], beats: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    bar, meter = given["bar"], given.get("meter", ())
    whole = all(
        isinstance(column, Sequence) and len(column) == beats and all(type(n) is int for n in column)
        for column in (bar, meter)
    )
    if not whole or any(not 0 <= b < m <= MOST_BEATS for b, m in zip(bar, meter, strict=True)):
        raise ValueError(f"bar and meter; expected, for each of {beats} beats, its place in a bar of 1 to {MOST_BEATS}")
    return tuple(bar), tuple(meter)


def _counted(downs: Sequence[int], lengths: Sequence[int], beats: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Number the beats in their bars; beats before the first downbeat and after the last count by the
    neighbouring bar.
    """
    bar, meter = [], []
    for i in range(beats):
        at = max(0, bisect_left(downs, i + 1) - 1)
        length = lengths[min(at, len(lengths) - 1)]
        place = i - downs[at]
        bar.append(place % length)
        meter.append(length)
    return tuple(bar), tuple(meter)


def _chords(given: Mapping[str, Any], seconds: float) -> tuple[Span, ...]:
    spans: list[Span] = []
    for row in given["chords"]:
        try:
            start, end, name = row
            span = Span(float(start), float(end), str(name))
        except (TypeError, ValueError):
            raise ValueError(f"chords: {row!r}; expected [begin, end, name] with times in s") from None
        if not (math.isfinite(span.start) and span.start < span.end < math.inf):
            raise ValueError(f"chords: {span.chord} from {span.start} to {span.end} s; expected an end after the start")
        if spans and span.start < spans[-1].end - 1e-3:
            raise ValueError(f"chords: {span.chord} begins at {span.start:.3f} s, before {spans[-1].chord} has ended")
        chord_named(span.chord)
        spans.append(span)
    if spans[-1].start > seconds + LONGEST:
        raise ValueError(f"chords go on to {spans[-1].end:.3f} s, the song ends at {seconds:.3f} s")
    return tuple(spans)


def _ascending(given: object, what: str, least: int = 2) -> list[float]:
    """Parse times (s). Raises ValueError for anything but ascending numbers, `least` of them or more."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) < least:
        raise ValueError(f"{what} is {given!r}; expected {least} or more times in s")
    for value in given:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{what} holds {value!r}; expected times in s")
    for before, after in pairwise(given):
        if after <= before:
            raise ValueError(f"{what} are out of order: {after:.3f} s comes after {before:.3f} s")
    return [float(value) for value in given]


def _nearest(times: Sequence[float], time: float) -> int:
    """Return the index of the beat nearest to a downbeat. Raises ValueError where none is near."""
    at = bisect_left(times, time)
    near = min(range(max(0, at - 1), min(len(times), at + 1)), key=lambda i: abs(times[i] - time))
    if abs(times[near] - time) > _APART:
        raise ValueError(f"the downbeat at {time:.3f} s is no beat; the nearest is at {times[near]:.3f} s")
    return near
