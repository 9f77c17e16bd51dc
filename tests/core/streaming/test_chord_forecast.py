"""Chords that were heard, carried forward: what came last time round comes again; else the last one holds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from accomp.core.music.annotations import Annotations, Beats, Span
from accomp.core.music.timelines import steady
from accomp.core.streaming.chord_forecast import ChordForecast

RATE = 50
BEAT = 0.5
LATE = 1.0  # s after which a chord is known
AHEAD = 0.2  # s by which frames are played before the input is heard


def heard(chords: list[str], now: float, each: float = 2.0) -> Annotations:
    """Chords of `each` s one after the other, again and again, as far as they are known by now."""
    end, spans, start, number = now - LATE, [], 0.0, 0
    while start < end:
        spans.append(Span(start, min(end, start + each), chords[number % len(chords)]))
        start, number = start + each, number + 1
    return Annotations(chords=tuple(spans))


def told(chords: list[str], seconds: float, beats, *, each: float = 2.0, frames: int = 1, step: int = 1) -> list[str]:
    """What is told of every `step`-th frame, "" where nothing is; `beats`: now (s) -> what is known of them."""
    carried = ChordForecast(lambda chunk: beats(chunk / RATE - AHEAD), RATE, frames)
    carried.begin()
    found = []
    for chunk in range(0, round(seconds * RATE), step):
        now = max(0.0, chunk / RATE - AHEAD)
        spans = carried(chunk, heard(chords, now, each), now).chords
        time = chunk / RATE
        found.append(next((span.chord for span in spans if span.start - 1e-6 <= time < span.end), ""))
    return found


def truth(chords: list[str], seconds: float, each: float = 2.0, step: int = 1) -> list[str]:
    times = np.arange(0, round(seconds * RATE), step) / RATE
    return [chords[int((time + 1e-9) / each) % len(chords)] for time in times]


def right(found: list[str], true: list[str], since: float, step: int = 1) -> float:
    begin = round(since * RATE / step)
    return float(np.mean([a == b for a, b in zip(found[begin:], true[begin:], strict=True)]))


def always(now: float) -> Beats:
    return steady(60 / BEAT, 4).beats


@pytest.mark.parametrize("chords", [["C", "Am", "F", "G"], ["C", "C", "F", "G", "C", "Am", "F", "F"]])
def test_what_came_last_time_round_comes_again_on_its_beat(chords):
    found, true = told(chords, 40, always, step=5), truth(chords, 40, step=5)
    once = len(chords) * 2.0
    assert right(found, true, once + 5, step=5) == 1
    held = told(chords, 40, lambda now: None, step=5)
    assert right(held, true, once + 5, step=5) < 0.7


def test_by_beats_that_were_found_late_and_without_bars():
    chords = ["C", "Am", "F", "G"]
    bare = Beats((7.5, 8.0))
    found = told(chords, 30, lambda now: bare if now > 3 else None, step=5)
    assert right(found, truth(chords, 30, step=5), 14, step=5) == 1


def test_by_a_beat_that_slows_down():
    """The chords last four beats, whatever the tempo."""
    grid = np.cumsum(np.concatenate([[0.0], np.linspace(0.45, 0.6, 90)]))
    chords = ["C", "Am", "F", "G"]
    spans = [Span(grid[i], grid[i + 4], chords[i // 4 % 4]) for i in range(0, 84, 4)]

    def beats(now: float) -> Beats:
        at = max(1, int(np.searchsorted(grid, now, side="right")) - 1)
        return Beats((grid[at], grid[at] + grid[at] - grid[at - 1]))

    carried = ChordForecast(lambda chunk: beats(chunk / RATE - AHEAD), RATE, 1)
    carried.begin()
    same = []
    for chunk in range(RATE, 40 * RATE, 5):
        time, now = chunk / RATE, chunk / RATE - AHEAD
        end = now - LATE
        known = tuple(Span(s.start, min(s.end, end), s.chord) for s in spans if s.start < end)
        found = carried(chunk, Annotations(chords=known), now).chords
        if found and time > 15:
            true = next(s.chord for s in spans if s.start <= time < s.end)
            same.append(next(s.chord for s in found if s.start <= time < s.end) == true)
    assert np.mean(same) > 0.95


def test_in_three_four_by_whole_bars():
    chords = ["C", "F", "G"]
    found = told(chords, 25, lambda now: steady(120, 3).beats, each=1.5, step=5)
    assert right(found, truth(chords, 25, each=1.5, step=5), 10, step=5) == 1


def test_where_nothing_repeats_the_chord_heard_last_holds():
    roots = ["C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B"]
    names = [f"{root}{kind}" for kind in ("", "m") for root in roots]
    found, true = told(names, 40, always, step=5), truth(names, 40, step=5)
    for i in range(round(6 * RATE / 5), len(found)):
        late = max(0, i - round((LATE + AHEAD) * RATE / 5) - 1)
        assert found[i] in true[late : i + 1]


def test_a_chunk_of_many_frames_is_covered():
    carried = ChordForecast(lambda chunk: always(0), RATE, 60)
    carried.begin()
    spans = carried(600, heard(["C", "F"], 11.8), 11.8).chords
    assert spans[0].start <= 12.0 < spans[0].end
    assert spans[-1].start < 13.2 <= spans[-1].end
    assert all(a.end == pytest.approx(b.start) for a, b in pairwise(spans))


def test_a_new_session_knows_nothing_of_the_beats_before():
    carried, fresh = (ChordForecast(lambda chunk: always(0), RATE, 1) for _ in range(2))
    for chunk in range(0, 1000, 10):
        carried(chunk, heard(["C", "F"], chunk / RATE), chunk / RATE)
    carried.begin()
    for chunk in range(100, 1000, 10):
        known = heard(["A", "B", "E"], chunk / RATE)
        assert carried(chunk, known, chunk / RATE) == fresh(chunk, known, chunk / RATE)
    assert list(carried._past) == list(fresh._past)


def test_nothing_heard_is_nothing_told_and_hours_take_no_more_room():
    carried = ChordForecast(lambda chunk: always(0), RATE, 1)
    carried.begin()
    assert not carried(0, Annotations(), 0.0).chords
    for chunk in range(8 * 3600 * RATE, 8 * 3600 * RATE + 100 * RATE, RATE // 4):
        now = chunk / RATE - AHEAD
        span = Span(now - 100, now - LATE, "C")
        assert carried(chunk, Annotations(chords=(span,)), now).chords[0].chord == "C"
    assert len(carried._past) < 100
    gaps = np.diff(carried._past)
    np.testing.assert_allclose(gaps, BEAT, atol=1e-4)
