"""Beats, bars and chords of a song: what a corpus tells, what is refused and named, and that the store passes it on."""

from __future__ import annotations

import re

import attrs
import pytest
from fakes import EnergyTokenizer, FolderCorpus, write_corpus

from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.stage import ingest_corpus
from accomp.core.music.annotations import NOTHING, Annotations, Beats, Span, read_annotations
from accomp.zarr_store.reader import Store

HALVES = [i / 2 for i in range(9)]
"""120 beats a minute for 4 s."""


def test_downbeats_say_where_each_beat_is_in_its_bar():
    told, problems = read_annotations({"by": "MIDI", "beats": HALVES, "downbeats": [0.5, 2.0, 4.0]})
    assert not problems
    assert told.by == "MIDI"
    assert told.beats == Beats(tuple(HALVES), (2, 0, 1, 2, 0, 1, 2, 3, 0), (3, 3, 3, 3, 4, 4, 4, 4, 4))


def test_beats_of_a_bar_count_from_the_first_and_without_bars_none_are_made_up():
    told, _ = read_annotations({"beats": HALVES, "beats_per_bar": 3})
    assert told.beats.bar == (0, 1, 2, 0, 1, 2, 0, 1, 2)
    assert set(told.beats.meter) == {3}
    assert read_annotations({"beats": HALVES})[0].beats == Beats(tuple(HALVES))


def test_chords_come_with_their_times():
    told, problems = read_annotations({"chords": [[0, 2, "C:maj7"], [2, 4, "N"]]})
    assert (told.chords, problems) == ((Span(0.0, 2.0, "C:maj7"), Span(2.0, 4.0, "N")), [])
    assert told.beats is None


def test_what_is_beyond_the_end_is_cut_off_and_a_far_longer_grid_is_another_songs():
    told, problems = read_annotations({"beats": HALVES, "downbeats": [0.0, 2.0, 4.0]}, 3.2)
    assert told.beats.times[-1] == 3.0
    assert len(told.beats.bar) == 7
    assert not problems
    told, problems = read_annotations({"beats": [float(i) for i in range(90)], "chords": [[0, 2, "C"]]}, 60.0)
    assert told.beats is None
    assert told.chords
    assert problems == ["beats go on to 89.000 s, the song ends at 60.000 s; they are another song's"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([1, 2], "expected a table with beats, downbeats, chords"),
        ({"beats": 120}, "beats is 120; expected 2 or more times in s"),
        ({"beats": [0.0]}, r"beats is \[0.0\]; expected 2 or more times"),
        ({"beats": [0.0, "1"]}, "beats holds '1'; expected times in s"),
        ({"beats": [0.0, float("nan")]}, "beats holds nan"),
        ({"beats": [0.0, 1.0, 0.5]}, "beats are out of order: 0.500 s comes after 1.000 s"),
        ({"beats": [0.0, 0.0]}, "out of order"),
        ({"beats": [0.0, 0.01, 1.0]}, "from the beat at 0.000 s to the next are 0.010 s; expected 0.1 to 5.0 s"),
        ({"beats": [0.0, 9.0]}, "from the beat at 0.000 s to the next are 9.000 s"),
        ({"beats": HALVES, "beats_per_bar": 0}, "beats_per_bar is 0; expected 1 to 16"),
        ({"beats": HALVES, "beats_per_bar": 30}, "beats_per_bar is 30"),
        ({"beats": HALVES, "downbeats": [0.0, 2.2]}, "the downbeat at 2.200 s is no beat; the nearest is at 2.000 s"),
        (
            {"beats": [i / 2 for i in range(40)], "downbeats": [0.0, 15.0]},
            "the bar at 0.000 s has 30 beats; expected 1 to 16",
        ),
        ({"beats": HALVES, "downbeats": [0.0, 0.004]}, "the bar at 0.000 s has 0 beats"),
        ({"beats": HALVES, "bar": [0], "meter": [4]}, "for each of 9 beats, its place in a bar of 1 to 16"),
        ({"chords": [[0, 2]]}, r"chords: \[0, 2\]; expected \[begin, end, name\]"),
        ({"chords": [[2, 1, "C"]]}, "chords: C from 2.0 to 1.0 s; expected an end after the start"),
        ({"chords": [[0, 2, "C"], [1, 3, "F"]]}, "chords: F begins at 1.000 s, before C has ended"),
        ({"chords": [[0, 2, "H7"]]}, "no chord is called 'H7'"),
    ],
)
def test_what_does_not_hold_is_named_and_counts_as_not_known(given, told):
    annotations, problems = read_annotations(given)
    assert (annotations.beats, annotations.chords) == (None, ())
    assert len(problems) == 1
    assert re.search(told, problems[0])


def test_what_is_written_is_read_again():
    told, _ = read_annotations({"by": "x", "beats": HALVES, "downbeats": [1.0, 2.5], "chords": [[0, 1, "D:min"]]})
    assert read_annotations(told.table()) == (told, [])
    assert NOTHING.table() == {}
    assert read_annotations({}) == (NOTHING, [])


class Annotated(FolderCorpus):
    """A folder whose songs are told to have these annotations."""

    told: Annotations = NOTHING

    def tracks(self, split):
        return (attrs.evolve(track, annotations=self.told) for track in super().tracks(split))


class NoEncoder(PartEncoder):
    """For an ingest that has nothing to encode."""

    def __call__(self, *_):
        pytest.fail("a song was encoded again")


def fill(corpus, store, told, encoder=PartEncoder):
    opened = Annotated(Annotated.Config(str(corpus)))
    opened.told = told
    return ingest_corpus(opened, encoder(EnergyTokenizer()), store)


def test_annotations_reach_the_store_and_others_replace_them_without_new_tokens(tmp_path):
    corpus, store = write_corpus(tmp_path / "c", {"train": 2}, seconds=2.0), tmp_path / "s.zarr"
    first = read_annotations({"beats": [0.0, 0.5, 1.0, 1.5], "beats_per_bar": 2})[0]
    summary = fill(corpus, store, first)
    assert summary.annotated == {"beats": 2, "bar": 2, "chords": 0}
    assert "known of these tracks: beats of 2, bars of 2, chords of 0" in str(summary)
    assert [track.record.annotations for track in Store(store).tracks("train")] == [first.table()] * 2
    other = read_annotations({"beats": [0.1, 0.7, 1.3], "chords": [[0, 1, "C"]]})[0]
    summary = fill(corpus, store, other, NoEncoder)
    assert (summary.added, summary.replaced, summary.relabelled) == (0, 0, 2)
    assert [track.record.annotations for track in Store(store).tracks("train")] == [other.table()] * 2
    assert fill(corpus, store, other, NoEncoder).relabelled == 0


def test_annotations_of_another_length_are_told_and_left_out(tmp_path):
    corpus, store = write_corpus(tmp_path / "c", {"train": 1}, seconds=2.0), tmp_path / "s.zarr"
    summary = fill(corpus, store, read_annotations({"beats": [float(i) for i in range(60)]})[0])
    (problem,) = summary.problems
    assert problem == (
        "beats go on to 59.000 s, the song ends at 2.000 s; they are another song's @ train/t0: annotations"
    )
    assert Store(store).tracks("train")[0].record.annotations == {}
    assert "known of these tracks" not in str(summary)
