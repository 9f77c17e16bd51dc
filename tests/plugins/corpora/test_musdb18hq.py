"""Reading MUSDB18-HQ as it is published, with all that can be missing or odd in it."""

from __future__ import annotations

import shutil

import pytest
from corpus_trees import SPACE, classes, write_sound

from accomp.core.data.ingest.load_song import load_song
from accomp.core.errors import DataError
from accomp.core.interfaces import Corpus
from accomp.core.spec.pairs import PairRules
from accomp.plugins.corpora.inspection import examine
from accomp.plugins.corpora.musdb18hq import VALIDATION, Musdb18Hq

HELD_OUT = "Young Griffo - Pennies"


def write_song(root, folder, names=("mixture", "drums", "bass", "other", "vocals"), **sound):
    for seed, name in enumerate(names):
        write_sound(root / folder / f"{name}.wav", seed=seed, **sound)
    return root / folder


@pytest.fixture
def root(tmp_path):
    for song in ("train/B - b", "train/A - a", f"train/{HELD_OUT}", "test/C - c"):
        write_song(tmp_path, song)
    return tmp_path


def corpus(root):
    return Musdb18Hq(Musdb18Hq.Config(root=str(root)))


def test_songs_come_in_the_owners_splits(root):
    reader = corpus(root)
    assert isinstance(reader, Corpus)
    assert {split: [track.id for track in reader.tracks(split)] for split in reader.splits} == {
        "train": ["A - a", "B - b"],
        "validation": [HELD_OUT],
        "test": ["C - c"],
    }
    assert len(VALIDATION) == 14
    assert reader.problems == []


def test_classes_come_from_file_names_and_the_mixture_is_no_stem(root):
    (track,) = corpus(root).tracks("test")
    assert classes(track) == {"bass": "Bass", "drums": "Percussive", "other": "Unknown", "vocals": "Vocal"}
    assert (track.source, track.licence) == ("MUSDB18-HQ", "academic use only")
    rules = PairRules()
    song = load_song(track, SPACE, rules)
    learned = [n for n, instrument in zip(song.names, song.instruments, strict=True) if rules.may_be_target(instrument)]
    assert learned == ["bass", "drums"]
    assert song.bandwidth > 15000


def test_without_songs_for_validation_there_are_two_splits(root):
    shutil.rmtree(root / "train" / HELD_OUT)
    assert corpus(root).splits == ("train", "test")
    with pytest.raises(DataError, match="empty split 'validation'"):
        corpus(root).tracks("validation")


def test_a_song_in_both_splits_is_in_test_alone(root):
    write_song(root, "train/C - c")
    reader = corpus(root)
    assert [track.id for track in reader.tracks("train")] == ["A - a", "B - b"]
    assert [track.id for track in reader.tracks("test")] == ["C - c"]
    assert reader.problems == [f"song is in test/ too, where it stays; left out of train/ @ {root}/train/C - c"]


def test_missing_stems_are_named_and_the_rest_used(root):
    (root / "test/C - c/other.wav").unlink()
    write_song(root, "test/D - d", ("mixture",))
    reader = corpus(root)
    (track,) = reader.tracks("test")
    assert list(track.stems) == ["bass", "drums", "vocals"]
    assert f"stem file is missing; expected other.wav @ {root}/test/C - c" in reader.problems
    assert f"song without a stem @ {root}/test/D - d" in reader.problems


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 1), (48000, 2)])
def test_any_rate_mono_or_stereo(root, rate, channels):
    write_song(root, "test/C - c", rate=rate, channels=channels)
    write_sound(root / "test/C - c/vocals.wav", rate=rate, channels=channels, loud=0)
    song = load_song(next(corpus(root).tracks("test")), SPACE, PairRules())
    assert song.stems.shape == (3, 32000)
    assert song.names == ("bass", "drums", "other")
    assert examine(corpus(root), "test")["sample_rates"] == {rate: 4}


def test_a_missing_folder_is_told(root, tmp_path):
    shutil.rmtree(root / "test")
    with pytest.raises(DataError, match="no folder test/; expected train, test"):
        corpus(root).tracks("test")
    with pytest.raises(
        DataError, match=r"no corpus folder; expected one with train, test in it: docs/guides/corpora\.md"
    ):
        corpus(tmp_path / "none").tracks("train")
