"""Reading MoisesDB as it is published, with all that can be missing or odd in it."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pytest
from corpus_trees import SPACE, classes, write_sound

from accomp.core.audio import io as audio
from accomp.core.data.ingest.load_song import load_song
from accomp.core.data.song_folders import split_of
from accomp.core.errors import DataError
from accomp.core.interfaces import Corpus
from accomp.core.spec.pairs import PairRules
from accomp.plugins.corpora.inspection import examine
from accomp.plugins.corpora.moisesdb import MoisesDB

BAND = {
    "drums": ["kick_drum", "snare_drum", "overheads"],
    "bass": ["bass_guitar"],
    "guitar": ["clean_electric_guitar", "distorted_electric_guitar"],
    "vocals": ["lead_female_singer", "background_vocals"],
}


def song_id(number, split="train"):
    """The number-th id, of the corpus's form, that falls to a split."""
    ids = (str(uuid.UUID(int=n)) for n in range(10_000))
    return [name for name in ids if split_of(name) == split][number]


def write_song(root, name, stems=BAND, *, sound=None, **metadata):
    """stems: stem -> types of its recordings."""
    song = root / "moisesdb_v0.1" / name
    entries = []
    for stem, types in stems.items():
        tracks = []
        for number, kind in enumerate(types):
            id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name}{stem}{number}"))
            write_sound(song / stem / f"{id}.wav", seed=number, **(sound or {}))
            tracks.append({"id": id, "trackType": kind, "extension": "wav", "has_bleed": False})
        entries.append({"id": str(uuid.uuid5(uuid.NAMESPACE_OID, stem)), "stemName": stem, "tracks": tracks})
    told = {"song": "One", "artist": "Someone", "genre": "singer_songwriter", "stems": entries} | metadata
    song.mkdir(parents=True, exist_ok=True)
    (song / "data.json").write_text(json.dumps(told))
    return song


@pytest.fixture
def root(tmp_path):
    """Two songs of one name to train on, one to validate, one to test."""
    for name in (song_id(0), song_id(1), song_id(0, "validation"), song_id(0, "test")):
        write_song(tmp_path, name)
    return tmp_path


def corpus(root):
    return MoisesDB(MoisesDB.Config(root=str(root)))


def test_songs_come_by_the_hash_of_their_id_with_genre_and_licence(root):
    reader = corpus(root)
    assert isinstance(reader, Corpus)
    tracks = {split: list(reader.tracks(split)) for split in reader.splits}
    assert {split: [track.id for track in found] for split, found in tracks.items()} == {
        "train": [song_id(0), song_id(1)],
        "validation": [song_id(0, "validation")],
        "test": [song_id(0, "test")],
    }
    song = tracks["test"][0]
    assert song.labels == {"genre": "singer_songwriter"}
    assert (song.source, song.licence) == ("MoisesDB", "CC BY-NC-SA 4.0")
    assert reader.problems == []
    assert list(corpus(root / "moisesdb_v0.1").tracks("test")) == [song]


def test_new_songs_move_no_other(root):
    before = {track.id: split for split in corpus(root).splits for track in corpus(root).tracks(split)}
    for number in range(5, 25):
        write_song(root, song_id(number), {"bass": ["bass_guitar"]}, sound={"seconds": 0.01})
    after = {track.id: split for split in corpus(root).splits for track in corpus(root).tracks(split)}
    assert len(after) == len(before) + 20
    assert before.items() <= after.items()


def test_recordings_of_a_stem_are_one_stem(root):
    (track,) = corpus(root).tracks("test")
    assert classes(track) == {"drums": "Percussive", "bass": "Bass", "guitar": "Guitar", "vocals": "Vocal"}
    drums = track.stems["drums"]
    assert sorted(drums.files) == sorted(drums.path.parent.glob("*.wav"))
    assert len(drums.files) == 3
    assert set(drums.name.split(", ")) == set(BAND["drums"])
    song = load_song(track, SPACE, PairRules())
    separate = [audio.read(path, 32000) for path in drums.files]
    np.testing.assert_allclose(song.stems[song.names.index("drums")], np.sum(separate, axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("stem", "kind", "instrument"),
    [
        ("bass", "contrabass/double_bass_(bass_of_instrings)", "Bass"),
        ("bass", "bass_synthesizer_(moog_etc)", "Bass"),
        ("wind", "flutes_(piccolo,_bamboo_flute,_panpipes,_flutes_etc)", "Pipe"),
        ("wind", "other_wind", "Organ"),
        ("other_keys", "other_sounds_(hapischord,_melotron_etc)", "Piano"),
        ("other_plucked", "banjo,_mandolin,_ukulele,_harp_etc", "Ethnic"),
        ("percussion", "a-tonal_percussion_(claps,_shakers,_congas,_cowbell_etc)", "Percussive"),
        ("bowed_strings", "cello_section", "Strings"),
        ("vocals", "other_(vocoder,_beatboxing_etc)", "Vocal"),
        ("other", "fx/processed_sound,_scratches,_gun_shots,_explosions_etc", "Sound Effects"),
        ("guitar", "something_new", "Guitar"),
        ("other", "click_track", "Unknown"),
    ],
)
def test_a_class_comes_from_the_type_else_from_the_stem(tmp_path, stem, kind, instrument):
    write_song(tmp_path, song_id(0), {stem: [kind]})
    (track,) = corpus(tmp_path).tracks("train")
    assert classes(track) == {stem: instrument}


def test_a_stem_of_several_classes_is_one_of_each(tmp_path):
    write_song(tmp_path, song_id(0), {"other_keys": ["organ,_electric_organ", "synth_pad", "synth_pad"]})
    (track,) = corpus(tmp_path).tracks("train")
    assert sorted(classes(track).items()) == [("other_keys Organ", "Organ"), ("other_keys Synth Pad", "Synth Pad")]
    assert [len(stem.files) for _, stem in sorted(track.stems.items())] == [1, 2]


def test_a_stem_that_is_listed_twice_is_one(tmp_path):
    song = write_song(tmp_path, song_id(0), {"drums": ["kick_drum", "toms"]})
    told = json.loads((song / "data.json").read_text())
    (entry,) = told["stems"]
    told["stems"] = [entry | {"tracks": entry["tracks"][:1]}, entry | {"tracks": entry["tracks"][1:]}]
    (song / "data.json").write_text(json.dumps(told))
    (track,) = corpus(tmp_path).tracks("train")
    assert len(track.stems["drums"].files) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "song without data.json"),
        ("{", "unreadable metadata"),
        ("[]", "metadata without a list of stems"),
        ('{"stems": {}}', "metadata without a list of stems"),
        ('{"stems": []}', "song without a usable stem"),
    ],
)
def test_a_song_without_usable_metadata_is_left_out_and_named(root, text, why):
    path = root / "moisesdb_v0.1" / song_id(0) / "data.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    reader = corpus(root)
    assert [track.id for track in reader.tracks("train")] == [song_id(1)]
    assert any(problem.startswith(why) and song_id(0) in problem for problem in reader.problems)


def test_odd_recordings_are_named_and_the_rest_used(root):
    song = write_song(root, song_id(2), genre=7)
    told = json.loads((song / "data.json").read_text())
    told["stems"].append({"stemName": "piano"})
    (song / "data.json").write_text(json.dumps(told))
    kick, snare, _ = (song / "drums" / f"{track['id']}.wav" for track in told["stems"][0]["tracks"])
    kick.unlink()
    extra = write_sound(song / "bass/extra.wav")
    reader = corpus(root)
    track = list(reader.tracks("train"))[-1]
    assert list(track.stems) == ["drums", "bass", "guitar", "vocals"]
    assert snare in track.stems["drums"].files
    assert kick not in track.stems["drums"].files
    assert track.labels == {}
    assert [problem.partition(" @ ")[2] for problem in reader.problems] == [
        f"{song / 'data.json'}",
        f"{kick}",
        f"{extra}",
        f"{song}",
    ]
    assert "expected stemName, and tracks" in reader.problems[0]
    assert "label 'genre' is 7" in reader.problems[3]


def test_recordings_that_do_not_fit_each_other_are_told(root):
    song = write_song(root, song_id(0, "test"), sound={"seconds": 3.0})
    kick = next((song / "drums").glob("*.wav"))
    write_sound(kick, rate=48000, seconds=3.0)
    (problem,) = examine(corpus(root), "test")["problems"]
    assert "different rates (44100, 48000 Hz)" in problem
    loaded = load_song(next(corpus(root).tracks("test")), SPACE, PairRules())
    assert "different rates" in {source.name: source.skipped for source in loaded.sources}["drums"]
    write_sound(kick, seconds=1.5)
    (problem,) = examine(corpus(root), "test")["problems"]
    assert "unequal length" in problem


def test_silent_stems_are_left_out_when_they_are_read(root):
    song = write_song(root, song_id(0, "test"), BAND)
    for path in (song / "guitar").glob("*.wav"):
        write_sound(path, loud=0)
    loaded = load_song(next(corpus(root).tracks("test")), SPACE, PairRules())
    assert {source.name: source.skipped for source in loaded.sources if source.skipped} == {
        "guitar": "silent throughout"
    }


def test_a_missing_corpus_and_an_empty_split_are_told(root, tmp_path):
    with pytest.raises(DataError, match=r"no corpus folder; expected one with folders with data\.json"):
        corpus(tmp_path / "none").tracks("train")
    assert corpus(tmp_path / "none").splits == ("train", "validation", "test")
    small = tmp_path / "small"
    write_song(small, song_id(0), {"bass": ["bass_guitar"]})
    assert corpus(small).splits == ("train",)
    with pytest.raises(DataError, match="empty split 'test'"):
        corpus(small).tracks("test")
