"""Any folder of stems: what is a song, what plays, which split, and that every guess is told."""

from __future__ import annotations

import pytest
from corpus_trees import SPACE, classes, write_sound

from accomp.core.data.ingest.load_song import load_song
from accomp.core.data.song_folders import split_of
from accomp.core.errors import DataError
from accomp.core.interfaces import Corpus
from accomp.core.spec.pairs import PairRules
from accomp.core.spec.parsing import Problems, strict_converter, structure_fields
from accomp.plugins.corpora.folder import Folder


def write_song(folder, *names, **sound):
    for seed, name in enumerate(names):
        path = write_sound(folder / (name if "." in name else f"{name}.wav"), seed=seed, **sound)
    return path.parent


def corpus(root, **config):
    return Folder(Folder.Config(root=str(root), **config))


def songs(reader):
    return {split: [track.id for track in reader.tracks(split)] for split in reader.splits}


def only(reader):
    (track,) = (track for split in reader.splits for track in reader.tracks(split))
    return track


def test_every_folder_with_audio_is_a_song_however_deep(tmp_path):
    """Songs of one name in different folders are different songs."""
    for folder in ("One", "album/One", "album/side b/Two"):
        write_song(tmp_path / folder, "bass", "drums")
    (tmp_path / "empty").mkdir()
    write_song(tmp_path / ".trash", "bass")
    reader = corpus(tmp_path)
    assert isinstance(reader, Corpus)
    found = songs(reader)
    assert sorted(id for ids in found.values() for id in ids) == ["One", "album/One", "album/side b/Two"]
    assert all(split_of(id) == split for split, ids in found.items() for id in ids)
    assert reader.problems == []


def test_a_folder_may_be_one_song(tmp_path):
    write_song(tmp_path / "Tune", "bass", "drums")
    track = only(corpus(tmp_path / "Tune"))
    assert (track.id, list(track.stems)) == ("Tune", ["bass", "drums"])
    assert (track.source, track.licence) == ("folder", "unstated")
    assert only(corpus(tmp_path / "Tune", licence="CC0-1.0")).licence == "CC0-1.0"


def test_adding_songs_moves_none(tmp_path):
    for number in range(12):
        write_song(tmp_path / f"song {number}", "bass", seconds=0.01)
    before = songs(corpus(tmp_path))
    for number in range(12, 40):
        write_song(tmp_path / f"song {number}", "bass", seconds=0.01)
    after = songs(corpus(tmp_path))
    assert all(set(ids) <= set(after[split]) for split, ids in before.items())
    assert set(after) == {"train", "validation", "test"}
    assert list(songs(corpus(tmp_path, held_out=0.0))) == ["train"]
    assert "train" not in corpus(tmp_path, held_out=0.5).splits


def test_the_users_own_splits_win(tmp_path):
    for folder in ("train/a", "train/b", "valid/c", "test/d", "more/e"):
        write_song(tmp_path / folder, "bass", "drums")
    reader = corpus(tmp_path)
    assert songs(reader) == {"train": ["train/a", "train/b"], "validation": ["valid/c"], "test": ["test/d"]}
    assert reader.problems == [f"song outside of train/, validation/ and test/ @ {tmp_path}/more/e"]


def test_splits_without_songs_are_none_and_told(tmp_path):
    write_song(tmp_path / "train/a", "bass", "drums")
    reader = corpus(tmp_path)
    assert reader.splits == ("train",)
    assert reader.notes == [
        "no song falls to validation and test; add songs, or put them into folders train/, validation/ and test/"
    ]
    with pytest.raises(DataError, match="empty split 'test': none of 1 songs falls to it"):
        reader.tracks("test")


def test_classes_are_guessed_from_names_and_told(tmp_path):
    write_song(tmp_path / "train/a", "Bass_01", "kick", "snare", "xyz", "double bass")
    reader = corpus(tmp_path)
    assert classes(only(reader)) == {
        "Bass_01": "Bass",
        "double bass": "Bass",
        "kick": "Percussive",
        "snare": "Percussive",
        "xyz": "Unknown",
    }
    bass, drums, unknown, _ = reader.notes
    assert bass == "Bass, inferred from file names (2): 'bass_01', 'double bass'"
    assert drums == "Percussive, inferred from file names (2): 'kick', 'snare'"
    assert unknown.startswith("Unknown, used as context only")
    assert "'xyz'" in unknown
    list(reader.tracks("train"))
    assert reader.notes[0] == bass, "reading twice counts once"


def test_a_title_that_all_files_share_says_nothing(tmp_path):
    write_song(tmp_path / "train/a", "Bass Guitar - Drums", "Bass Guitar - Flute", "Bass Guitar - 3")
    write_song(tmp_path / "train/b", "Guitar 1", "Guitar 2")
    one, two = corpus(tmp_path).tracks("train")
    assert list(classes(one).values()) == ["Bass", "Percussive", "Pipe"]
    assert list(classes(two).values()) == ["Guitar", "Guitar"]


def test_the_spec_says_what_a_guess_does_not_know(tmp_path):
    write_song(tmp_path / "train/a", "Xyz 1", "drums", "mix B")
    reader = corpus(tmp_path, classes={"xyz*": "Guitar", "MIX ?": "Organ"})
    assert classes(only(reader)) == {"Xyz 1": "Guitar", "drums": "Percussive", "mix B": "Organ"}
    assert not any("xyz" in note for note in reader.notes)
    with pytest.raises(Problems, match="no instrument is called 'Gitar'; did you mean 'Guitar'"):
        structure_fields(strict_converter(), {"root": ".", "classes": {"x": "Gitar"}}, Folder.Config)


def test_mixtures_and_files_of_one_name_are_left_out_and_named(tmp_path):
    song = write_song(tmp_path / "train/a", "bass.wav", "bass.flac", "Full Mix", "song_master", "drum mix", "mixture")
    reader = corpus(tmp_path)
    assert classes(only(reader)) == {"bass": "Bass", "drum mix": "Percussive"}
    assert reader.problems == [
        f"a mixture, by its name @ {song}/Full Mix.wav",
        f"another file of that name is used: bass.flac @ {song}/bass.wav",
        f"a mixture, by its name @ {song}/mixture.wav",
        f"a mixture, by its name @ {song}/song_master.wav",
    ]


def test_a_song_of_nothing_but_a_mixture_is_left_out(tmp_path):
    write_song(tmp_path / "train/a", "bass", "drums")
    write_song(tmp_path / "train/b", "mix")
    reader = corpus(tmp_path)
    assert [track.id for track in reader.tracks("train")] == ["train/a"]
    assert f"song without a stem @ {tmp_path}/train/b" in reader.problems


def test_any_mix_of_rates_channels_and_silence(tmp_path):
    song = tmp_path / "train/a"
    write_sound(song / "bass.wav", rate=16000, channels=1)
    write_sound(song / "drums.flac", rate=44100, channels=2, seed=1)
    write_sound(song / "piano.wav", rate=48000, channels=2, seed=2)
    write_sound(song / "organ.wav", rate=48000, channels=1, loud=0)
    loaded = load_song(only(corpus(tmp_path)), SPACE, PairRules())
    assert loaded.names == ("bass", "drums", "piano")
    assert loaded.stems.shape == (3, 32000)
    assert {source.name: (source.rate, source.skipped) for source in loaded.sources} == {
        "bass": (16000, ""),
        "drums": (44100, ""),
        "organ": (48000, "silent throughout"),
        "piano": (48000, ""),
    }


def test_what_is_no_folder_of_stems_is_told(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no audio files \(\.wav, .*\), neither here nor further down"):
        corpus(tmp_path).tracks("train")
    with pytest.raises(DataError, match="no corpus folder"):
        corpus(tmp_path / "none").tracks("train")
    with pytest.raises(DataError, match="unknown split 'dev'"):
        corpus(tmp_path).tracks("dev")
