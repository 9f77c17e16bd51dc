"""Chord charts: what is typed, what is refused and where, and which frames each chord falls on."""

import numpy as np
import pytest

from accomp.core.music.annotations import read_annotations
from accomp.core.music.charts import Chart, read_chart, source_of
from accomp.core.music.chords import Chord, chord_named
from accomp.core.music.timelines import bar_at, steady

C, AM, F, G = (("C",), ("Am",), ("F",), ("G",))


@pytest.mark.parametrize(
    ("text", "bars"),
    [
        ("C Am F G", (C, AM, F, G)),
        ("| C | Am |\n| F | G |", (C, AM, F, G)),
        ("| C Am | F G |", (("C", "Am"), ("F", "G"))),
        ("C Am % G", (C, AM, AM, G)),
        ("| C | % | % |", (C, C, C)),
        ("|: C | Am :| F |", (C, AM, C, AM, F)),
        ("C |: Am :| x3 F", (C, AM, AM, AM, F)),
        ("| C :| F |", (C, C, F)),
        ("| F / / G |", (("F", "F", "F", "G"),)),
        ("|| Bb/D || N.C. ||", (("Bb/D",), ("N.C.",))),
        ("{title: A song}\n[C]words and [Am]words\n[F]more [G]", (C, AM, F, G)),
        ("C:maj7 A:min/b3", (("C:maj7",), ("A:min/b3",))),
    ],
)
def test_charts_are_read_as_musicians_type_them(text, bars):
    assert read_chart(text).bars == bars


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no chord in the chart ''"),
        ("| |", "no chord in the chart"),
        ("C H7 F", "no chord is called 'H7'.* @ line 1, character 3 of the chart"),
        ("C F\nG Xy", "'Xy'.* @ line 2, character 3"),
        ("% C", "% @ line 1, character 1 of the chart repeats the bar before, and there is none"),
        ("| / C |", "/ @ line 1, character 3 of the chart holds the chord before it"),
        ("|: C :| x900", "a repeat of 900 times @ line 1, character 6"),
        ("C : G", "':' @ line 1, character 3 of the chart means nothing"),
        ("[C]la [Q]la", "no chord is called 'Q'.* @ line 1, character 7"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(text, told):
    with pytest.raises(ValueError, match=told):
        read_chart(text)


def test_a_chart_begins_again_and_nothing_sounds_before_the_first_bar():
    chart = read_chart("| C Am | F |")
    assert [chart.chord_at(0, share) for share in (0.0, 0.49, 0.5)] == [chord_named(n) for n in ("C", "C", "Am")]
    assert chart.chord_at(3, 0.9) == chord_named("F")
    assert chart.chord_at(4, 0.0) == chord_named("C")
    assert chart.chord_at(-1, 0.5) == Chord()


def test_chords_come_on_their_frames():
    """120 beats a minute, 4 a bar: a bar is 100 frames of 20 ms; the first downbeat is 10 frames in."""
    tell = source_of(read_chart("C Am F"), steady(120, 4, offset=0.2), 50.0)
    values = tell(0, 711)
    assert not values[:10].any()
    for first, name in ((10, "C"), (110, "Am"), (210, "F"), (310, "C"), (610, "C")):
        want = np.array([1.0, *chord_named(name).values()], np.float32)
        assert (values[first : first + 100] == want).all(), first
    assert (tell(300, 20) == values[300:320]).all()


def test_bars_are_counted_over_changes_of_meter_and_beyond_the_grid():
    beats = read_annotations({"beats": [i * 0.5 for i in range(10)], "downbeats": [0.5, 2.0, 4.0]})[0].beats
    number, share = bar_at(beats, np.array([0.0, 0.5, 1.99, 2.0, 3.0, 4.0, 6.0, 7.0, -1.1]))
    assert number.tolist() == [-1, 0, 0, 1, 1, 2, 3, 3, -2]
    np.testing.assert_allclose(share, [2 / 3, 0, 1.49 / 1.5, 0, 0.5, 0, 0, 0.5, 1.4 / 1.5], atol=1e-4)


def test_without_bars_nobody_knows_when_a_chord_comes():
    with pytest.raises(ValueError, match="a chart needs a metronome with bars"):
        source_of(Chart((C,)), steady(120), 50.0)
