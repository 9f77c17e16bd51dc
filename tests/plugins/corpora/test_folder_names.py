"""Names and links as disks, separators and people make them: one song once, under one id, and nothing unread unsaid."""

from __future__ import annotations

import os
import unicodedata

import numpy as np
import pytest
from corpus_trees import SPACE, classes, write_sound
from hypothesis import given, settings
from hypothesis import strategies as st

from accomp.core.audio import io as audio
from accomp.core.data.ingest.load_song import load_song
from accomp.core.data.song_folders import split_of
from accomp.core.spec.pairs import PairRules
from accomp.plugins.corpora.folder import Folder


def corpus(root, **config):
    return Folder(Folder.Config(root=str(root), **config))


def tracks(reader):
    return [track for split in reader.splits for track in reader.tracks(split)]


def song(folder, *names):
    for seed, name in enumerate(names):
        write_sound(folder / name if "." in name else folder / f"{name}.wav", seed=seed)
    return folder


def test_links_make_no_second_song(tmp_path):
    root = tmp_path / "music"
    for name in ("A", "B"):
        song(root / "album" / name, "bass", "drums")
    (root / "album" / "again").symlink_to("..")
    (root / "Zero").symlink_to(root / "album" / "A")
    (root / "above").symlink_to(tmp_path)
    song(tmp_path / "elsewhere", "bass", "piano")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "linked too").symlink_to(tmp_path / "elsewhere")
    (root / "album" / "B" / "piano.wav").symlink_to(root / "album" / "A" / "bass.wav")
    reader = corpus(root)
    assert sorted(track.id for track in tracks(reader)) == ["album/A", "album/B", "linked"]
    told = "\n".join(reader.problems)
    assert [f"@ {root / name}" in told for name in ("album/again", "Zero", "above", "linked too")] == [True] * 4
    assert f"read already ({root / 'album/A/bass.wav'}) @ {root / 'album/B/piano.wav'}" in told


@settings(max_examples=20, deadline=None)
@given(links=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6))
def test_whatever_is_linked_the_songs_are_those_on_the_disk(tmp_path_factory, links):
    root = tmp_path_factory.mktemp("links")
    folders = [root / "a", root / "a" / "b", root / "c", root / "c" / "d", root / "c" / "d" / "e", root]
    for folder in folders[:5]:
        song(folder, "bass", "drums")
    for number, (at, to) in enumerate(links):
        (folders[at] / f"link {number}").symlink_to(folders[to])
    reader = corpus(root)
    assert sorted(track.id for track in tracks(reader)) == ["a", "a/b", "c", "c/d", "c/d/e"]
    assert len(reader.problems) == len(links)


def test_what_is_not_read_is_named_once(tmp_path):
    song(tmp_path / "song", "bass", "drums", "organ.w64", "strings.caf")
    song(tmp_path / "song", "brass.aiff").joinpath("brass.aiff").rename(tmp_path / "song" / "brass.aifc")
    for name in ("guitar.m4a", "pad.wma"):
        (tmp_path / "song" / name).write_bytes(b"sound")
    (tmp_path / "song" / "notes.txt").write_text("no sound")
    (tmp_path / "song" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "all of it.m4a").write_bytes(b"sound")
    reader = corpus(tmp_path)
    (found,) = tracks(reader)
    tracks(reader)
    assert set(found.stems) == {"bass", "drums", "organ", "brass", "strings"}
    named = [problem.rpartition("/")[2] for problem in reader.problems if "not read" in problem or "nowhere" in problem]
    assert sorted(named) == ["all of it.m4a", "gone.wav", "guitar.m4a", "pad.wma"]
    assert not any("notes.txt" in problem for problem in reader.problems)


def test_names_that_are_no_text_are_left_out_by_name(tmp_path):
    song(tmp_path / "song", "bass", "drums")
    os.rename(song(tmp_path / "x", "bass") / "bass.wav", os.fsencode(tmp_path / "song") + b"/\xe9tude.wav")
    os.rename(song(tmp_path / "y", "bass", "drums"), os.fsencode(tmp_path) + b"/caf\xe9")
    reader = corpus(tmp_path)
    assert [track.id for track in tracks(reader)] == ["song"]
    assert any("\\xe9tude.wav" in problem for problem in reader.problems)
    "\n".join((*reader.problems, *reader.notes)).encode()


def test_composed_and_decomposed_names_are_one(tmp_path):
    plain, apart = (unicodedata.normalize(form, "Café Flöte") for form in ("NFC", "NFD"))
    song(tmp_path / "a" / apart, f"{unicodedata.normalize('NFD', 'flöte')} 1", "drums")
    reader = corpus(tmp_path / "a", classes={"flöte*": "Pipe", "nichts*": "Bass"})
    (found,) = tracks(reader)
    assert found.id == plain
    assert reader.splits == (split_of(plain),) == (split_of(apart),)
    assert classes(found) == {"flöte 1": "Pipe", "drums": "Percussive"}
    assert any("'nichts*' matches no file name" in note for note in reader.notes)
    assert not any("'flöte*'" in note for note in reader.notes)
    song(tmp_path / "a" / plain, "bass", "drums")
    both = corpus(tmp_path / "a")
    assert len(tracks(both)) == 1
    assert any("another song is called" in problem for problem in both.problems)


@pytest.mark.parametrize("name", ["no_drums", "No Drums", "minus drums", "without-drums", "drumless", "nodrums"])
def test_all_but_the_drums_is_no_drums(tmp_path, name):
    (found,) = tracks(corpus(song(tmp_path / "song", "drums", name)))
    assert classes(found) == {"drums": "Percussive", name: "Unknown"}


@pytest.mark.parametrize("name", ["no_drums", "instrumental", "accompaniment", "backing track", "Karaoke"])
def test_all_but_one_is_left_out_where_its_parts_are_there(tmp_path, name):
    reader = corpus(song(tmp_path / "song", "drums", "bass", "piano", name))
    (found,) = tracks(reader)
    assert set(found.stems) == {"drums", "bass", "piano"}
    assert any("a mixture of other stems" in problem for problem in reader.problems)


@pytest.mark.parametrize(
    ("name", "instrument"), [("guitar no 2", "Guitar"), ("nordic flute", "Pipe"), ("backing vox", "Vocal")]
)
def test_other_words_are_taken_as_before(tmp_path, name, instrument):
    (found,) = tracks(corpus(song(tmp_path / "song", "drums", name)))
    assert classes(found)[name] == instrument


def test_a_mix_beside_its_stems_is_heard_out_whatever_it_is_called(tmp_path):
    rate = SPACE.sample_rate
    parts = 0.2 * np.random.default_rng(0).standard_normal((3, 2 * rate)).clip(-1, 1).astype(np.float32)
    for name, sound in zip(("bass", "drums", "piano"), parts, strict=True):
        audio.write(tmp_path / "song" / f"{name}.wav", sound, rate)
    audio.write(tmp_path / "song" / "Blue in Green.wav", 0.8 * parts.sum(axis=0), rate)
    (track,) = tracks(corpus(tmp_path))
    found = load_song(track, SPACE, PairRules())
    assert set(found.names) == {"bass", "drums", "piano"}
    (left,) = (source for source in found.sources if source.skipped)
    assert (left.name, "sum of the song's other stems" in left.skipped) == ("Blue in Green", True)


def test_a_stem_that_is_there_twice_is_no_accompaniment_of_itself(tmp_path):
    rate = SPACE.sample_rate
    sound, other = 0.2 * np.random.default_rng(0).standard_normal((2, 2 * rate)).clip(-1, 1).astype(np.float32)
    for name, part in (("bass", sound), ("bass copy", 0.5 * sound), ("drums", other)):
        audio.write(tmp_path / "song" / f"{name}.wav", part, rate)
    (track,) = tracks(corpus(tmp_path))
    names = load_song(track, SPACE, PairRules()).names
    assert len(names) == 2
    assert "drums" in names
