"""Beats and bars of a MIDI file by its tempos and time signatures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

COMMON = (0, 4, 4)
"""Default meter: tick, beats per bar, note value of a beat (4: quarter)."""

Tempo = tuple[int, int]
Meter = tuple[int, int, int]


def beats_and_downbeats(
    tempos: Sequence[Tempo], meters: Sequence[Meter], resolution: int, last: int
) -> tuple[list[float], list[float]]:
    """Return the times (s) of all beats up to the tick `last` and of the downbeats.

    tempos: (tick, microseconds per quarter note), meters: (tick, numerator, denominator), both by tick, the first at 0;
    `resolution`: ticks per quarter note. A beat is a quarter note, or the note value of the signature in bars that are
    not a whole number of quarters (7/8). A new signature starts a bar.
    """
    ends = [*(tick for tick, _, _ in meters[1:]), last + 1]
    beats, downs = [], []
    for (start, numerator, denominator), end in zip(meters, ends, strict=True):
        quarters = numerator * 4 / denominator
        step = resolution if quarters.is_integer() else resolution * 4 / denominator
        each = round(quarters) if quarters.is_integer() else numerator
        for i, tick in enumerate(_ticks(start, end, step)):
            beats.append(tick)
            if i % each == 0:
                downs.append(tick)
    return _seconds(beats, tempos, resolution), _seconds(downs, tempos, resolution)


def _ticks(start: int, end: int, step: float) -> Iterator[float]:
    i = 0
    while (tick := start + i * step) < end:
        yield tick
        i += 1


def _seconds(ticks: Sequence[float], tempos: Sequence[Tempo], resolution: int) -> list[float]:
    """Convert ascending ticks to times (s)."""
    found, at, since = [], 0, 0.0
    for tick in ticks:
        while at + 1 < len(tempos) and tempos[at + 1][0] <= tick:
            since += (tempos[at + 1][0] - tempos[at][0]) * tempos[at][1] / 1e6 / resolution
            at += 1
        found.append(since + (tick - tempos[at][0]) * tempos[at][1] / 1e6 / resolution)
    return found
