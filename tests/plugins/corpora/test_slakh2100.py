"""Reading the Slakh2100 layout, with all that can be missing or odd in it."""

import json

import numpy as np
import pytest
import soundfile
import yaml

from accomp.core.errors import DataError
from accomp.core.interfaces import Corpus
from accomp.core.music.instruments import CLASSES, DRUMS
from accomp.plugins.corpora.inspection import examine, inspect
from accomp.plugins.corpora.slakh2100 import Slakh2100


def entry(program, *, drum=False, **more):
    """A stem's entry with the fields that Slakh2100 has."""
    return {
        "audio_rendered": True,
        "inst_class": "Drums" if drum else "Piano",
        "integrated_loudness": -20.0,
        "is_drum": drum,
        "midi_program_name": "Drums" if drum else "Acoustic Grand Piano",
        "midi_saved": True,
        "plugin_name": "ar_rock_kit_full.nkm",
        "program_num": program,
    } | more


def write_song(root, folder, stems, *, seconds=1.0, rate=44_100, suffix=".flac", **metadata):
    """stems: name -> (entry, whether its audio is there)."""
    song = root / folder
    (song / "stems").mkdir(parents=True)
    for name, (_, there) in stems.items():
        if there:
            soundfile.write(song / "stems" / f"{name}{suffix}", np.zeros(round(seconds * rate)), rate)
    table = {"UUID": "1a", "audio_dir": "stems", "stems": {name: row for name, (row, _) in stems.items()}} | metadata
    (song / "metadata.yaml").write_text(yaml.safe_dump(table))
    return song


@pytest.fixture
def root(tmp_path):
    """Two songs to train on, one to validate, one to test."""
    duo = {"S00": (entry(33), True), "S01": (entry(128, drum=True), True)}
    for folder in ("train/Track00002", "train/Track00001", "validation/Track01501", "test/Track01876"):
        write_song(tmp_path, folder, duo)
    return tmp_path


def corpus(root):
    return Slakh2100(Slakh2100.Config(root=str(root)))


def test_songs_come_in_order_with_paths_classes_and_origin(root):
    reader = corpus(root)
    assert isinstance(reader, Corpus)
    songs = list(reader.tracks("train"))
    assert [song.id for song in songs] == ["Track00001", "Track00002"]
    stems = songs[0].stems
    assert {name: CLASSES[stem.instrument] for name, stem in stems.items()} == {"S00": "Bass", "S01": "Percussive"}
    assert stems["S00"].path == root / "train/Track00001/stems/S00.flac"
    assert stems["S01"].name == "Drums"
    assert (songs[0].source, songs[0].licence) == ("Slakh2100", "CC BY 4.0")
    assert reader.problems == []


def test_a_song_that_says_where_it_comes_from_is_believed(root):
    write_song(root, "test/Track9", {"S00": (entry(0), True)}, source="freedoom: E1M1", licence="BSD-3-Clause")
    song = list(corpus(root).tracks("test"))[-1]
    assert (song.source, song.licence) == ("freedoom: E1M1", "BSD-3-Clause")


@pytest.mark.parametrize(("program", "name"), [(0, "Piano"), (7, "Piano"), (8, CLASSES[1]), (127, CLASSES[15])])
def test_a_class_is_an_eighth_of_the_programs(root, program, name):
    write_song(root, "test/Track9", {"S00": (entry(program), True)})
    assert CLASSES[list(corpus(root).tracks("test"))[-1].stems["S00"].instrument] == name


def test_drums_are_drums_whatever_their_program(root):
    write_song(root, "test/Track9", {f"S0{i}": (entry(p, drum=True), True) for i, p in enumerate((128, 0, 999, None))})
    assert {s.instrument for s in list(corpus(root).tracks("test"))[-1].stems.values()} == {DRUMS}


def test_wav_stems_are_read_too(root):
    write_song(root, "test/Track9", {"S00": (entry(0), True)}, suffix=".wav")
    assert list(corpus(root).tracks("test"))[-1].stems["S00"].path.suffix == ".wav"


@pytest.mark.parametrize(
    ("row", "there", "why"),
    [
        (entry(0, audio_rendered=False), False, r"never rendered \(audio_rendered: false\)"),
        (entry(0), False, r"stem file is missing; expected stems/S07\.flac"),
        (entry(128), True, r"program_num: .*128; expected 0\.\.127"),
        (entry(-1), True, r"expected 0\.\.127"),
        (entry("grand"), True, "program_num is 'grand'"),
        (entry(True), True, "program_num is True"),
        (entry(None), True, "program_num is None"),
        (entry(0, is_drum="no"), True, "is_drum is 'no'; expected true or false"),
        ({}, True, "is_drum is None"),
        ("piano", True, "stem described by 'piano'"),
    ],
)
def test_an_odd_stem_is_named_and_the_rest_of_the_song_is_used(root, row, there, why):
    write_song(root, "test/Track9", {"S01": (entry(33), True), "S07": (row, there)})
    reader = corpus(root)
    assert list(list(reader.tracks("test"))[-1].stems) == ["S01"]
    assert len(reader.problems) == 1
    with pytest.raises(DataError, match=rf"{why}.* @ .*Track9: S07"):
        raise DataError(*reader.problems)
    list(reader.tracks("test"))
    assert len(reader.problems) == 1, "named once, however often the split is read"


def test_a_stem_file_that_metadata_does_not_know_is_named(root):
    extra = root / "test/Track01876/stems/S09.flac"
    soundfile.write(extra, np.zeros(100), 44_100)
    reader = corpus(root)
    assert list(next(iter(reader.tracks("test"))).stems) == ["S00", "S01"]
    assert reader.problems == [f"stem without an entry in metadata.yaml @ {extra}"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "song without metadata.yaml"),
        ("stems: [", "unreadable metadata"),
        ("\x00", "unreadable metadata"),
        ("just words", "metadata without a table of stems"),
        ("stems:\n- S00\n", "metadata without a table of stems"),
        ("stems: {}", "song without a usable stem"),
    ],
)
def test_an_unreadable_song_is_named_and_the_others_are_used(root, text, why):
    (root / "test/Track00000").mkdir()
    if text is not None:
        (root / "test/Track00000/metadata.yaml").write_text(text)
    reader = corpus(root)
    assert [song.id for song in reader.tracks("test")] == ["Track01876"]
    assert len(reader.problems) == 1
    assert why in reader.problems[0]
    assert "Track00000" in reader.problems[0]


def test_unfinished_folders_and_stray_files_are_no_songs(root):
    (root / "test/.Track00009.tmp").mkdir()
    (root / "test/Track.txt").write_text("")
    reader = corpus(root)
    assert [song.id for song in reader.tracks("test")] == ["Track01876"]
    assert reader.problems == []


def test_a_wrong_root_says_what_was_expected(root, tmp_path):
    with pytest.raises(DataError, match=r"no corpus folder; .*accomp corpus mini-slakh .*/nowhere` @ .*/nowhere"):
        corpus(tmp_path / "nowhere").tracks("train")
    with pytest.raises(DataError, match="unknown split 'valid'; expected one of train, validation, test"):
        corpus(root).tracks("valid")
    inner = tmp_path / "outer" / "slakh2100_flac_redux"
    inner.mkdir(parents=True)
    (root / "train").rename(inner / "train")
    with pytest.raises(DataError, match=r"no folder train/; is .*slakh2100_flac_redux the root\?"):
        corpus(tmp_path / "outer").tracks("train")
    some = tmp_path / "some"
    some.mkdir()
    for split in ("test", "validation"):
        (root / split).rename(some / split)
    with pytest.raises(DataError, match="expected train, validation, test, found test, validation"):
        corpus(some).tracks("train")


def test_an_empty_split_is_an_error(root):
    (root / "more" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="empty split 'train': expected folders TrackNNNNN"):
        corpus(root / "more").tracks("train")


def test_a_split_without_a_usable_song_is_an_error_that_says_why(tmp_path):
    write_song(tmp_path, "train/Track1", {"S00": (entry(0), False)})
    with pytest.raises(DataError, match="no song of split 'train' can be used: stem file is missing"):
        list(corpus(tmp_path).tracks("train"))


def test_inspect_counts_what_is_there(root, capsys):
    write_song(root, "train/Track00003", {"S00": (entry(0), True)}, seconds=2, rate=32_000, licence="CC0-1.0")
    inspect(root, "slakh2100", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["train"] == {
        "songs": 3,
        "hours": pytest.approx(4 / 3600, abs=1e-4),
        "stems": 5,
        "classes": {"Bass": 2, "Percussive": 2, "Piano": 1},
        "labels": {},
        "sample_rates": {"44100": 4, "32000": 1},
        "bandwidth": {"Track00001": 0, "Track00002": 0, "Track00003": 0},
        "licences": {"CC BY 4.0": 2, "CC0-1.0": 1},
        "problems": [],
    }
    assert found["test"]["songs"] == 1
    inspect(root, "slakh2100", as_json=False)
    text = capsys.readouterr().out
    assert "train: 3 songs" in text
    assert "Bass 2, Percussive 2, Piano 1" in text
    assert "44100 Hz: 4, 32000 Hz: 1" in text


def test_labels_of_songs_and_stems_are_read(root, capsys):
    stems = {"S00": (entry(33, labels={"role": "low", "genre": "funk"}), True), "S01": (entry(0), True)}
    write_song(root, "test/Track9", stems, labels={"genre": "rock"})
    reader = corpus(root)
    unlabelled, song = reader.tracks("test")
    assert (unlabelled.labels, unlabelled.stems["S00"].labels) == ({}, {})
    assert song.labels == {"genre": "rock"}
    assert {name: stem.labels for name, stem in song.stems.items()} == {
        "S00": {"role": "low", "genre": "funk"},
        "S01": {},
    }
    assert reader.problems == []
    found = examine(reader, "test")
    assert found["labels"] == {"genre": {"funk": 1, "rock": 1}, "role": {"low": 1}}
    assert list(found["classes"]) == ["Bass", "Percussive", "Piano"]
    inspect(root, "slakh2100", as_json=False)
    assert "  label genre: 2 of 4 stems: funk 1, rock 1\n  label role: 1 of 4 stems: low 1\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("labels", "kept", "why"),
    [
        ({"year": 1999, "genre": "rock"}, {"genre": "rock"}, "label 'year' is 1999; expected text"),
        ({"live": True}, {}, "label 'live' is True; expected text"),
        ({"genre": ["rock", "pop"]}, {}, "label 'genre' is \\['rock', 'pop'\\]; expected text"),
        ({"instrument": "Bass"}, {}, "label 'instrument': 'Bass'; that name means something else"),
        ("rock", {}, "labels is 'rock'; expected a table"),
        (None, {}, "labels is None; expected a table"),
    ],
)
def test_an_odd_label_is_named_and_the_song_is_used(root, labels, kept, why):
    write_song(root, "test/Track9", {"S00": (entry(0), True), "S01": (entry(0, labels=labels), True)}, labels=labels)
    reader = corpus(root)
    song = list(reader.tracks("test"))[-1]
    assert song.labels == song.stems["S01"].labels == kept
    assert len(song.stems) == 2
    assert [problem.partition(" @ ")[2] for problem in reader.problems] == [
        f"{root}/test/Track9: S01",
        f"{root}/test/Track9",
    ]
    for problem in reader.problems:
        with pytest.raises(DataError, match=why):
            raise DataError(problem)


def test_inspect_names_what_is_wrong(root):
    song = write_song(root, "test/Track2", {f"S0{i}": (entry(0), True) for i in range(3)})
    soundfile.write(song / "stems/S01.flac", np.zeros(4410), 44_100)
    (song / "stems/S02.flac").write_bytes(b"fLaC and no more")
    write_song(root, "test/Track3", {"S00": (entry(0, audio_rendered=False), False), "S01": (entry(0), True)})
    problems = examine(corpus(root), "test")["problems"]
    assert len(problems) == 3
    assert "never rendered" in problems[0]
    assert "cannot read audio" in problems[1]
    assert "S02.flac" in problems[1]
    assert problems[2] == "stems of unequal length: S01 0.100 s, S00 1.000 s @ Track2"


def test_inspect_goes_on_where_a_split_is_missing_and_fails_where_all_are(root, tmp_path, capsys):
    (root / "validation").rename(root / "omitted")
    inspect(root, "slakh2100", as_json=False)
    assert "no folder validation/" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"no split of this corpus can be used, .* --corpus folder reads"):
        inspect(tmp_path / "nowhere", "slakh2100", as_json=False)


def test_several_roots_are_one_corpus_whose_songs_tell_their_root(tmp_path):
    for name, songs in (("a", 2), ("b", 1)):
        for number in range(songs):
            write_song(tmp_path / name / "train", f"Track0000{number}", {"S00": (entry(33), True)})
    roots = [str(tmp_path / name) for name in ("a", "b")]
    corpus = Slakh2100(Slakh2100.Config(tuple(roots)))
    assert [track.id for track in corpus.tracks("train")] == ["a-Track00000", "a-Track00001", "b-Track00000"]
    write_song(tmp_path / "b" / "train", "Track00009", {"S00": (entry(200), True)})
    list(corpus.tracks("train"))
    assert any("Track00009" in problem for problem in corpus.problems)
    with pytest.raises(DataError, match=r"no corpus folder.*@ .*/gone"):
        Slakh2100(Slakh2100.Config((roots[0], str(tmp_path / "gone")))).tracks("train")
    for same in ((), (roots[0], roots[0])):
        with pytest.raises(ValueError, match="each of another name"):
            Slakh2100.Config(same)
