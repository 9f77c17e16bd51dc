"""Reading CocoChorales as it is published, with all that can be missing or odd in it."""

from __future__ import annotations

import pytest
import yaml
from corpus_trees import SPACE, classes, write_sound

from accomp.core.data.ingest.load_song import load_song
from accomp.core.errors import DataError
from accomp.core.interfaces import Corpus
from accomp.core.spec.pairs import PairRules
from accomp.plugins.corpora.cocochorales import CocoChorales
from accomp.plugins.corpora.inspection import examine

WOODWIND = {"flute": 73, "oboe": 68, "clarinet": 71, "bassoon": 70}
RANDOM = {"violin": 40, "trumpet": 56, "saxophone": 65, "double bass": 43}


def write_song(root, folder, voices=WOODWIND, *, first=1, **metadata):
    """As in the archives: files are numbered from 1, the metadata's voices from 0."""
    song = root / folder
    for voice, name in enumerate(voices):
        write_sound(song / "stems_audio" / f"{voice + first}_{name}.wav", rate=16000, channels=1, seed=voice)
    write_sound(song / "mix.wav", rate=16000, channels=1)
    told = {
        "midi_file": "233461.mid",
        "tempo": 88,
        "ensemble": song.name.partition("_")[0],
        "instrument_name": dict(enumerate(voices)),
        "midi_program_number": dict(enumerate(voices.values())),
        "normalized": True,
        "pitch_correction_amount": {0: [0.5, 0.52]},
    }
    (song / "metadata.yaml").write_text(yaml.dump(told | metadata))
    return song


@pytest.fixture
def root(tmp_path):
    write_song(tmp_path, "train/woodwind_track000002")
    write_song(tmp_path, "train/random_track000001", RANDOM)
    write_song(tmp_path, "valid/woodwind_track192001")
    write_song(tmp_path, "test/woodwind_track216001")
    return tmp_path


def corpus(root):
    return CocoChorales(CocoChorales.Config(root=str(root)))


def test_songs_come_in_the_published_splits_with_classes_by_program(root):
    reader = corpus(root)
    assert isinstance(reader, Corpus)
    assert reader.splits == ("train", "validation", "test")
    tracks = {split: list(reader.tracks(split)) for split in reader.splits}
    assert {split: [track.id for track in found] for split, found in tracks.items()} == {
        "train": ["random_track000001", "woodwind_track000002"],
        "validation": ["woodwind_track192001"],
        "test": ["woodwind_track216001"],
    }
    assert classes(tracks["test"][0]) == {
        "1_flute": "Pipe",
        "2_oboe": "Reed",
        "3_clarinet": "Reed",
        "4_bassoon": "Reed",
    }
    song = tracks["train"][0]
    assert song.stems["1_violin"].path == root / "train/random_track000001/stems_audio/1_violin.wav"
    assert (song.source, song.licence, song.labels) == ("CocoChorales", "CC BY 4.0", {"ensemble": "random"})
    assert reader.problems == []


def test_a_double_bass_is_bass(root):
    song = next(corpus(root).tracks("train"))
    assert list(classes(song).values()) == ["Strings", "Brass", "Reed", "Bass"]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("voices", [WOODWIND, {"violin": 40, "viola": 41, "cello": 42, "tuba": 58}])
def test_voices_are_numbered_from_one_or_from_nought(tmp_path, first, voices):
    song = write_song(tmp_path, "test/random_track216002", voices, first=first)
    (song / "stems_audio" / f"{first}_{next(iter(voices))}.wav").unlink()
    reader = corpus(tmp_path)
    (track,) = reader.tracks("test")
    assert [stem.name for stem in track.stems.values()] == list(voices)[1:]
    assert [name.partition("_")[2] for name in track.stems] == list(voices)[1:]
    assert len(reader.problems) == 1
    assert f"stem file is missing; expected {first}_{next(iter(voices))}.wav" in reader.problems[0]


@pytest.mark.parametrize("first", [0, 1])
def test_without_names_the_lowest_number_tells_how_voices_count(tmp_path, first):
    write_song(tmp_path, "test/woodwind_track216002", first=first, instrument_name=None)
    (track,) = corpus(tmp_path).tracks("test")
    assert list(classes(track).values()) == ["Pipe", "Reed", "Reed", "Reed"]


@pytest.mark.parametrize("stray", ["\x7f", "\ufeff", "?", ""])
@pytest.mark.parametrize("flow", [True, False])
def test_however_metadata_is_written_and_with_a_stray_first_character(root, stray, flow):
    path = root / "test/woodwind_track216001/metadata.yaml"
    path.write_text(stray + yaml.dump(yaml.safe_load(path.read_text()), default_flow_style=flow))
    reader = corpus(root)
    track = next(reader.tracks("test"))
    assert list(classes(track).values()) == ["Pipe", "Reed", "Reed", "Reed"]
    assert track.labels == {"ensemble": "woodwind"}
    assert reader.problems == []


def test_a_start_of_a_document_is_no_trouble(root):
    path = root / "test/woodwind_track216001/metadata.yaml"
    path.write_text("---\n" + path.read_text() + "...\n")
    assert next(corpus(root).tracks("test")).labels == {"ensemble": "woodwind"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "song without metadata.yaml"),
        ("a: [", "unreadable metadata"),
        ("", "metadata without a table midi_program_number"),
        ("midi_program_number: [1, 2]", "metadata without a table midi_program_number"),
        ("midi_program_number: {a: 2}", "metadata without a table midi_program_number"),
    ],
)
def test_a_song_without_usable_metadata_is_left_out_and_named(root, text, why):
    path = root / "train/random_track000001/metadata.yaml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    reader = corpus(root)
    assert [track.id for track in reader.tracks("train")] == ["woodwind_track000002"]
    assert len(reader.problems) == 1
    assert reader.problems[0].startswith(why)
    assert "random_track000001" in reader.problems[0]


@pytest.mark.parametrize(("program", "why"), [(128, "128; expected 0..127"), ("flute", "'flute'; expected 0..127")])
def test_an_odd_stem_is_named_and_the_rest_used(root, program, why):
    song = write_song(root, "test/woodwind_track216002", WOODWIND | {"oboe": program})
    write_sound(song / "stems_audio" / "9_kazoo.wav")
    write_sound(song / "stems_audio" / "notes.wav")
    reader = corpus(root)
    track = list(reader.tracks("test"))[-1]
    assert list(track.stems) == ["1_flute", "3_clarinet", "4_bassoon"]
    assert [problem for problem in reader.problems if why in problem and "2_oboe.wav" in problem]
    assert [p.rpartition("/")[2] for p in reader.problems if "without an entry" in p] == ["9_kazoo.wav", "notes.wav"]
    assert len(reader.problems) == 3


def test_a_song_without_sound_is_left_out(root):
    song = write_song(root, "test/woodwind_track216002", {"flute": 73})
    (song / "stems_audio/1_flute.wav").unlink()
    (song / "stems_audio").rmdir()
    reader = corpus(root)
    assert len(list(reader.tracks("test"))) == 1
    assert reader.problems == [f"song without stems_audio/ @ {song}"]


def test_silent_and_short_stems_are_told_when_they_are_read(root):
    song = root / "test/woodwind_track216001/stems_audio"
    write_sound(song / "2_oboe.wav", rate=16000, channels=1, loud=0)
    (track,) = corpus(root).tracks("test")
    loaded = load_song(track, SPACE, PairRules())
    assert loaded.names == ("1_flute", "3_clarinet", "4_bassoon")
    assert {source.name: source.skipped for source in loaded.sources}["2_oboe"] == "silent throughout"
    assert loaded.bandwidth <= 8100, "16 kHz audio holds nothing above 8 kHz, whatever the store's rate"
    write_sound(song / "2_oboe.wav", rate=16000, channels=1, seconds=0.5)
    assert examine(corpus(root), "test")["problems"] == [
        "stems of unequal length: 2_oboe 0.500 s, 1_flute 1.000 s @ woodwind_track216001"
    ]


def test_missing_folders_are_told(root, tmp_path):
    (root / "valid").rename(root / "validation")
    with pytest.raises(DataError, match="no folder valid/; expected train, valid, test"):
        corpus(root).tracks("validation")
    with pytest.raises(DataError, match="no corpus folder"):
        corpus(tmp_path / "none").tracks("train")
    (tmp_path / "full" / "main_dataset" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"is .*main_dataset the root\?"):
        corpus(tmp_path / "full").tracks("train")
