"""Which song goes where: by its notes alone."""

import hashlib

import pytest
from midi_files import band, midi_file, note

from accomp.plugins.corpora.mini_slakh import plan
from accomp.plugins.corpora.mini_slakh.midi import MidiError, read
from accomp.plugins.corpora.mini_slakh.render import Source


def song(number, seconds=100.0, rank=0, name=None):
    fingerprint = hashlib.sha256(str(number).encode()).hexdigest()
    return plan.Candidate(Source(name or f"song {number}", "none", b""), fingerprint, seconds, rank)


def splits(planned):
    return {p.candidate.fingerprint: p.folder.split("/")[0] for p in planned}


def test_shares_are_three_quarters_a_tenth_and_the_rest():
    drawn = [plan.split_of(song(number).fingerprint) for number in range(20_000)]
    shares = {split: drawn.count(split) / len(drawn) for split in plan.SPLITS}
    assert shares == pytest.approx({"train": 0.75, "validation": 0.10, "test": 0.15}, abs=0.01)


def test_a_songs_split_depends_on_nothing_but_the_song():
    songs = [song(number) for number in range(200)]
    everywhere = splits(plan.choose(songs, None))
    assert len(everywhere) == 200
    for minutes in (1, 10, 60):
        for some in (songs, songs[::-1], songs[::3]):
            for fingerprint, split in splits(plan.choose(some, minutes)).items():
                assert split == everywhere[fingerprint] == plan.split_of(fingerprint)


@pytest.mark.parametrize("minutes", [5, 30, 90])
def test_a_limit_takes_whole_songs_until_it_is_reached_and_fills_every_split(minutes):
    songs = [song(number) for number in range(400)]
    chosen = plan.choose(songs, minutes)
    lengths = [p.candidate.seconds / 60 for p in chosen]
    assert sum(lengths[:-1]) < minutes <= sum(lengths)
    counts = {split: list(splits(chosen).values()).count(split) for split in plan.SPLITS}
    assert min(counts.values()) >= 1
    if minutes >= 30:
        assert counts["train"] / len(chosen) == pytest.approx(0.75, abs=0.1)
        assert counts["test"] >= 3


@pytest.mark.parametrize("minutes", [6, 12, 30, 60])
def test_songs_are_cut_so_that_a_few_fit_into_every_split(minutes):
    longest = plan.longest_song(240, minutes)
    chosen = plan.choose([song(number, seconds=longest) for number in range(200)], minutes)
    assert len(chosen) >= 24
    assert {split: list(splits(chosen).values()).count(split) for split in plan.SPLITS} == {
        "train": 18,
        "validation": 2,
        "test": 4,
    }


def test_songs_are_never_cut_under_the_shortest_song_nor_beyond_what_is_asked():
    assert plan.longest_song(240, 0.25) == plan.SHORTEST
    assert plan.longest_song(20, 600) == 20
    assert plan.longest_song(240, None) == 240


def test_bands_come_first_then_others_then_composed():
    songs = [song(number, rank=number % 3) for number in range(300)]
    for split in plan.SPLITS:
        ranks = [p.candidate.rank for p in plan.choose(songs, None) if p.folder.startswith(split)]
        assert ranks == sorted(ranks)
        assert set(ranks) == {0, 1, 2}


def test_folders_are_numbered_once_across_splits():
    names = [p.folder.split("/")[1] for p in plan.choose([song(number) for number in range(60)], None)]
    assert names == [f"Track{number:05d}" for number in range(1, 61)]


def test_a_song_under_two_names_is_taken_once():
    songs, twice = plan.distinct([song(1, name="b"), song(2), song(1, name="a"), song(1, name="c")])
    assert sorted(s.source.name for s in songs) == ["a", "song 2"]
    assert [(left.source.name, kept.source.name) for left, kept in twice] == [("b", "a"), ("c", "a")]


def test_too_short_and_too_lonely_songs_are_named():
    source = Source("x", "none", b"")
    with pytest.raises(MidiError, match=r"6\.8 s long"):
        plan.survey(source, read(band(11), longest=100))
    with pytest.raises(MidiError, match="1 instrument"):
        plan.survey(source, read(midi_file(note(0, 60, length=480 * 40)), longest=100))
    assert plan.survey(source, read(band(40), longest=100)).rank == 0
