"""Variants of songs: other keys, tempos and sound fonts, beside the songs of train and nowhere else."""

import json
import shutil
from collections import Counter
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import yaml
from midi_files import band, midi_file, note, program

from accomp.core.errors import DataError
from accomp.plugins.corpora.mini_slakh import composer, synth
from accomp.plugins.corpora.mini_slakh.command import mini_slakh
from accomp.plugins.corpora.mini_slakh.midi import TAIL, Part, read
from accomp.plugins.corpora.mini_slakh.variants import Variant, annotated, transposed, variants_of
from accomp.plugins.corpora.slakh2100 import Slakh2100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("midi")
    for number in range(3):
        (where / f"tune{number}.mid").write_bytes(band(tune=number, bpm=110 + 10 * number))
    return where


@pytest.fixture(scope="module")
def fonts(tmp_path_factory):
    """The carried sound font, and a copy of another name."""
    other = tmp_path_factory.mktemp("font") / "other.sf2"
    shutil.copy(synth.carried_font(), other)
    return [synth.carried_font(), other]


@pytest.fixture(scope="module")
def plain(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "out"
    mini_slakh(out, midi=folder, longest=16, workers=1)
    return out


@pytest.fixture(scope="module")
def varied(folder, fonts, tmp_path_factory):
    out = tmp_path_factory.mktemp("varied") / "out"
    mini_slakh(out, midi=folder, longest=16, workers=1, transpose=[3], tempo=[1.25], font=fonts)
    return out


SUFFIXES = ["_tempo1.25", "_transposed+3", "_transposed+3_tempo1.25"]


def metadata(song):
    return yaml.safe_load((song / "metadata.yaml").read_text())


def onsets(path):
    """(s, channel, note) of every note of a MIDI file."""
    time, found = 0.0, []
    for message in mido.MidiFile(path):
        time += message.time
        if message.type == "note_on" and message.velocity:
            found.append((time, message.channel, message.note))
    return sorted(found)


def train_songs(out):
    return sorted(path for path in (out / "train").iterdir() if "_" not in path.name)


def test_train_songs_get_every_variant_and_others_none(plain, varied):
    songs = [path.name for path in train_songs(plain)]
    assert songs
    assert sorted(path.name for path in (varied / "train").iterdir()) == sorted(
        [*songs, *(song + suffix for song in songs for suffix in SUFFIXES)]
    )
    for split in ("validation", "test"):
        assert sorted(p.name for p in varied.glob(f"{split}/*")) == sorted(p.name for p in plain.glob(f"{split}/*"))


def test_the_songs_themselves_are_the_same_bytes(plain, varied):
    for path in plain.glob("*/*/**/*"):
        if path.is_file():
            assert (varied / path.relative_to(plain)).read_bytes() == path.read_bytes()


def test_variants_are_named_in_metadata_and_record(varied):
    rows = {row["folder"]: row for row in json.loads((varied / "SOURCES.json").read_text())["songs"]}
    for song in train_songs(varied):
        assert "variant" not in metadata(song)
        assert "variant" not in rows[f"train/{song.name}"]
        for suffix in SUFFIXES:
            own = metadata(song.with_name(song.name + suffix))
            assert own["variant"] == rows[f"train/{song.name}{suffix}"]["variant"]
            assert own["variant"] == {
                "of": song.name,
                "transpose": 3 if "transposed" in suffix else 0,
                "tempo": 1.25 if "tempo" in suffix else 1.0,
                "fonts_only": False,
            }
            assert own["source"] == metadata(song)["source"]
            assert own["labels"] == metadata(song)["labels"]
    uuids = Counter(metadata(path.parent)["UUID"] for path in varied.glob("*/*/metadata.yaml"))
    assert set(uuids.values()) == {1}


def test_what_is_played_is_higher_and_faster_but_drums_are_as_they_were(varied):
    for song in train_songs(varied):
        before = onsets(song / "all_src.mid")
        for suffix, semitones, factor in zip(SUFFIXES, (0, 3, 3), (1.25, 1.0, 1.25), strict=True):
            expected = [(t / factor, c, n + semitones * (c != 9)) for t, c, n in before]
            after = onsets(song.with_name(song.name + suffix) / "all_src.mid")
            assert [row[1:] for row in after[: len(expected)]] == [row[1:] for row in expected]
            assert [row[0] for row in after[: len(expected)]] == pytest.approx([row[0] for row in expected], abs=2e-3)


def test_transposed_stems_sound_higher(varied):
    """By the frequency around which half of a bass's spectrum lies."""
    for song in train_songs(varied):
        number = next(name for name, stem in metadata(song)["stems"].items() if stem["inst_class"] == "Bass")
        pitches = []
        for name in (song.name, song.name + "_transposed+3"):
            sound, rate = soundfile.read(song.with_name(name) / "stems" / f"{number}.flac")
            power = np.abs(np.fft.rfft(sound)) ** 2
            pitches.append(np.searchsorted(power.cumsum(), power.sum() / 2) * rate / len(sound))
        assert pitches[1] / pitches[0] == pytest.approx(2 ** (3 / 12), rel=0.15)


def test_the_reader_takes_variants_for_songs_of_train(varied):
    reader = Slakh2100(Slakh2100.Config(str(varied)))
    assert len(list(reader.tracks("train"))) == 4 * len(train_songs(varied))
    assert reader.problems == []


def test_the_same_options_give_the_same_bytes_and_others_are_refused(folder, fonts, varied, plain, tmp_path):
    again = tmp_path / "out"
    mini_slakh(again, midi=folder, longest=16, workers=2, transpose=[3], tempo=[1.25], font=fonts)
    files = sorted(path.relative_to(varied) for path in varied.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((varied / file).read_bytes() == (again / file).read_bytes() for file in files)
    with pytest.raises(DataError, match=r"made from other music or options .*variants was"):
        mini_slakh(varied, midi=folder, longest=16, workers=1)
    with pytest.raises(DataError, match=r"made from other music or options .*variants was None"):
        mini_slakh(plain, midi=folder, longest=16, workers=1, transpose=[3])


def test_parts_of_variants_are_played_by_fonts_drawn_by_name(varied, fonts):
    names = {font.name for font in fonts}
    drawn = Counter()
    for path in varied.glob("*/*/metadata.yaml"):
        song = yaml.safe_load(path.read_text())
        used = Counter(stem["plugin_name"] for stem in song["stems"].values())
        if "variant" in song:
            drawn += used
        else:
            assert set(used) == {fonts[0].name}
    assert set(drawn) == names


def test_a_draw_depends_on_the_name_and_the_instrument_alone():
    fonts = [Path(f"{number}.sf2") for number in range(4)]
    parts = [Part(number, 1, ()) for number in range(128)]
    drawn = [Variant(3).font_of("a song", part, fonts) for part in parts]
    assert drawn == [Variant(3).font_of("a song", part, fonts) for part in parts]
    assert drawn != [Variant(3).font_of("another", part, fonts) for part in parts]
    assert drawn != [Variant(2).font_of("a song", part, fonts) for part in parts]
    assert min(Counter(drawn).values()) > 16
    only = [Variant(fonts_only=True).font_of("a song", part, fonts) for part in parts]
    assert set(only) == set(fonts[1:])


def test_every_combination_but_the_song_itself_is_a_variant():
    found = variants_of([2, -3, 2], [0.9], 1)
    assert [(v.transpose, v.tempo) for v in found] == [(0, 0.9), (2, 1), (2, 0.9), (-3, 1), (-3, 0.9)]
    assert len({v.suffix for v in found}) == 5
    assert variants_of([], [], 1) == []
    assert variants_of([], [], 2) == [Variant(fonts_only=True)]
    assert not any(v.fonts_only for v in variants_of([1], [], 2))


def test_values_out_of_range_are_refused():
    for semitones in (0, 13, -20):
        with pytest.raises(DataError, match=f"--transpose {semitones}; expected semitones from -12 to 12, not 0"):
            variants_of([semitones], [], 1)
    for factor in (1.0, 0.0, 3.0, float("nan")):
        with pytest.raises(DataError, match=f"--tempo {factor}; expected a factor from 0.5 to 2, not 1"):
            variants_of([], [factor], 1)


def test_notes_stay_within_midis_range():
    tune = program(0) + [event for pitch in (1, 60, 125) for event in note(480 * pitch, pitch)]
    song = read(midi_file(tune), longest=1000)
    for semitones, expected in ((-3, [10, 57, 122]), (5, [6, 65, 118])):
        (part,) = transposed(song, semitones).parts
        played = [event.message.note for event in part.events if event.message.type == "note_on"]
        assert played == expected
        assert played == [event.message.note for event in part.events if event.message.type == "note_off"]


def test_a_slower_song_is_longer_and_still_cut():
    data = band(tune=1)
    written, slower = read(data, longest=1000), read(data, longest=1000, tempo=0.5)
    assert slower.seconds - TAIL == pytest.approx(2 * (written.seconds - TAIL), rel=1e-4)
    assert slower.fingerprint == written.fingerprint
    assert read(data, longest=20, tempo=0.5).seconds == pytest.approx(20)


def test_what_is_known_of_a_song_is_known_of_its_variant():
    known = composer.compose(1, 2).annotations
    other = annotated(known, Variant(2, 1.25))
    tonic, mode = known["key"].split(":")
    assert other["key"] == f"{composer.NOTES[(composer.NOTES.index(tonic) + 2) % 12]}:{mode}"
    assert other["tempo"] == pytest.approx(1.25 * known["tempo"])
    assert np.array(other["beats"]) == pytest.approx(np.array(known["beats"]) / 1.25)
    for (start, end, name), (began, ended, was) in zip(other["chords"], known["chords"], strict=True):
        assert (start, end) == pytest.approx((began / 1.25, ended / 1.25))
        assert (composer.NOTES.index(name.split(":")[0]) - composer.NOTES.index(was.split(":")[0])) % 12 == 2
        assert name.split(":")[1] == was.split(":")[1]
    assert annotated(known, Variant(fonts_only=True)) == known
