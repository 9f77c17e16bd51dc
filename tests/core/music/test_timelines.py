"""What a model is told of each frame: numbers of metronome and chart, against arithmetic by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accomp.core.music.annotations import Annotations, read_annotations
from accomp.core.music.labels import TIMELINES
from accomp.core.music.timelines import KINDS, chart, frame_times, metronome


def told(**table) -> Annotations:
    annotations, problems = read_annotations(table)
    assert not problems
    return annotations


STEADY = told(beats=[i * 0.5 for i in range(9)], beats_per_bar=4)


def test_on_a_downbeat_both_phases_are_zero_and_half_a_bar_on_they_are_not():
    down, half = metronome(STEADY, np.array([2.0, 1.0]))
    np.testing.assert_allclose(down, [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0], atol=1e-4)
    np.testing.assert_allclose(half[11:15], [0, -1, 0, 1], atol=1e-4)


def test_a_quarter_into_a_beat_of_another_tempo_and_meter():
    (row,) = metronome(told(beats=[0.0, 1.0, 2.0, 3.0], beats_per_bar=3), np.array([1.25]))
    angle = 2 * np.pi * 0.25
    want = [f(h * angle) for h in (1, 2, 3, 4) for f in (np.sin, np.cos)]
    np.testing.assert_allclose(row[1:9], want, atol=1e-4)
    assert row[9] == pytest.approx(2.0)
    bar = 2 * np.pi * 1.25 / 3
    np.testing.assert_allclose(row[11:15], [f(h * bar) for h in (1, 2) for f in (np.sin, np.cos)], atol=1e-4)
    assert row[15] == pytest.approx(-0.25)


@settings(deadline=None)
@given(st.integers(-40, 200))
def test_a_steady_grid_goes_on_beyond_its_ends(half_beats):
    """As if it had always been there."""
    time = np.array([half_beats * 0.25])
    inside = np.array([half_beats * 0.25 % 2.0])
    np.testing.assert_allclose(metronome(STEADY, time), metronome(STEADY, inside), atol=1e-4)


def test_after_eight_hours_the_phase_is_exact():
    late = 8 * 3600.0
    np.testing.assert_allclose(
        metronome(STEADY, np.array([late + 0.123])), metronome(STEADY, np.array([0.123])), atol=1e-4
    )


def test_what_is_not_known_is_zero():
    times = frame_times(0, 4, 50.0)
    assert not metronome(Annotations(), times).any()
    assert not chart(Annotations(), times).any()
    without_bars = metronome(told(beats=[0.0, 0.5, 1.0]), times)
    assert without_bars[:, 0].all()
    assert not without_bars[:, 10:].any()


def test_the_chart_says_the_chord_that_sounds_and_that_none_does():
    song = told(chords=[[1.0, 2.0, "Am/E"], [2.0, 3.0, "N"]])
    before, chord, none, after = chart(song, np.array([0.5, 1.0, 2.5, 3.0]))
    assert not before.any()
    assert not after.any()
    assert chord.nonzero()[0].tolist() == [0, 1, 1 + 4, 1 + 9, 13 + 4]
    assert none.nonzero()[0].tolist() == [0]


def test_kinds_have_the_widths_they_say():
    times = frame_times(3, 5, 50.0, start=0.2)
    assert times == pytest.approx([0.26, 0.28, 0.3, 0.32, 0.34])
    for kind in KINDS.values():
        assert kind.of(STEADY, times).shape == (5, kind.width)


def test_the_kinds_are_those_that_a_spec_may_name():
    assert tuple(KINDS) == TIMELINES
