"""`accomp corpus mini-slakh --source mma`: songs from grooves, what is known of them, and their splits.

mma itself is not needed: a stand-in reads the songs as mma does and plays every chord on every beat.
"""

import io

import mido
import numpy as np
import pytest
import yaml

from accomp.core.errors import DataError
from accomp.plugins.corpora.mini_slakh import mma, plan, sources
from accomp.plugins.corpora.mini_slakh.command import mini_slakh
from accomp.plugins.corpora.mini_slakh.composer import NOTES
from accomp.plugins.corpora.mini_slakh.midi import MidiError
from accomp.plugins.corpora.mini_slakh.render import Source
from accomp.plugins.corpora.slakh2100 import Slakh2100

STAND_IN = """
import os, re, sys
from pathlib import Path
import mido
NOTES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
TONES = {"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "M7": (0, 4, 7, 11), "6": (0, 4, 7, 9), "m7": (0, 3, 7, 10),
         "m7b5": (0, 3, 6, 10)}
assert sys.argv[1:5] == ["-i", os.devnull, "-f", "song.mid"]
lines = Path(sys.argv[5]).read_text().splitlines()
style = next(line.split()[1] for line in lines if line.startswith("Use"))
groove_file = (Path(os.environ["MMA_HOME"]) / "lib" / style).read_text()
if "Broken" in groove_file:
    print("ERROR: no such thing")
    sys.exit(1)
beats = int(re.search(r"Time (\\d)", groove_file)[1])
tempo = next(int(line.split()[1]) for line in lines if line.startswith("Tempo"))
conductor = [mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo)),
             mido.MetaMessage("time_signature", numerator=beats, denominator=4)]
events, tick, marked = [], 0, 0
for line in lines:
    if line.startswith("MidiMark"):
        conductor.append(mido.MetaMessage("marker", text=line.split()[1], time=tick - marked))
        marked = tick
    elif chord := re.fullmatch(r"\\d+ ([A-G]b?)(.*)", line):
        root = NOTES.index(chord[1])
        for beat in range(beats):
            at = tick + 192 * beat
            notes = [(0, 60 + root + tone) for tone in TONES[chord[2]]] + [(9, 38 if beat else 36)]
            if "Solo" not in groove_file:
                notes.append((1, 36 + root))
            events += [(at, "note_on", *note) for note in notes] + [(at + 180, "note_off", *note) for note in notes]
        tick += 192 * beats
track, last = [mido.Message("program_change", channel=1, program=33)], 0
for at, kind, channel, note in sorted(events):
    track.append(mido.Message(kind, channel=channel, note=note, time=at - last))
    last = at
file = mido.MidiFile(ticks_per_beat=192)
file.tracks += [mido.MidiTrack(conductor), mido.MidiTrack(track)]
file.save("song.mid")
"""
TONES = {"maj": "047", "min": "037", "7": "047t", "maj7": "047e", "maj6": "0479", "min7": "037t", "hdim7": "036t"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The package as it lies unpacked, with thirty styles, and some files that are no styles."""
    cache = tmp_path_factory.mktemp("cache")
    package = cache / "mma"
    stdlib = package / "usr/share/mma/lib/stdlib"
    stdlib.mkdir(parents=True)
    (package / "VERSION").write_text("21.09-1\n")
    (package / "usr/bin").mkdir()
    (package / "usr/bin/mma").write_text(STAND_IN)
    for number in range(30):
        time = 3 if number % 3 == 0 else 4
        grooves = "".join(
            f"DefGroove Style{number}{end}  Words.\n" for end in ("", "Plus", "Intro", "End", "Fill", "-44")
        )
        (stdlib / f"style{number}.mma").write_text(f"Time {time}\n{grooves}")
    (stdlib / "broken.mma").write_text("Time 4\nDefGroove Broken\n")
    (stdlib / "metronome2.mma").write_text("Time 4\nDefGroove Metronome\n")
    (stdlib / "patterns.mma").write_text("Begin Chord Define\nEnd\n")
    return cache


@pytest.fixture(scope="module")
def files(cache):
    return mma.library(cache / "mma")


def played(files, cache, number, seed=0):
    song = mma.sketch(files, seed, number)
    return song, mma.play(song, cache / "mma")


def test_the_library_is_the_files_with_grooves_that_can_carry_a_song(files):
    assert [file.name for file in files] == sorted(["broken", *(f"style{number}" for number in range(30))])
    assert files[1] == mma.GrooveFile("style0", ("Style0", "Style0Plus"), 3)
    assert {file.beats for file in files} == {3, 4}


def test_the_same_numbers_give_the_same_song_and_others_another(files, cache):
    songs = [played(files, cache, number) for number in (0, 1, 0)]
    assert songs[0] == songs[2]
    assert songs[0] != songs[1]
    assert mma.sketch(files, 1, 0) != mma.sketch(files, 0, 0)
    assert songs[0][0].text.startswith("RndSeed ")


@pytest.mark.parametrize("number", range(6))
def test_what_is_known_is_what_sounds(files, cache, number):
    """Bar by bar: the notes that begin there are those of the chord, on the beats, the kick on the downbeats."""
    _, composition = played(files, cache, number)
    known = composition.annotations
    beats_per_bar = int(known["meter"].split("/")[0])
    assert known["beats_per_bar"] == beats_per_bar
    assert np.diff(known["beats"]) == pytest.approx(60 / known["tempo"], abs=1e-4)
    assert known["beats"][::beats_per_bar] == pytest.approx(known["downbeats"], abs=1e-5)
    assert len(known["chords"]) == len(known["downbeats"])
    assert known["chords"][-1][1] >= mma.SHORTEST
    time, kicks, pitches = 0.0, [], {}
    for message in mido.MidiFile(file=io.BytesIO(composition.midi)):
        time += message.time
        if message.type == "note_on" and message.channel == 9 and message.note == 36:
            kicks.append(time)
        elif message.type == "note_on" and message.channel == 0:
            pitches.setdefault(round(time, 3), set()).add(message.note % 12)
    assert kicks == pytest.approx(known["downbeats"], abs=1e-4)
    for start, end, name in known["chords"]:
        root, quality = name.split(":")
        chord = {(NOTES.index(root) + {"t": 10, "e": 11}.get(c, ord(c) - 48)) % 12 for c in TONES[quality]}
        sounding = [heard for at, heard in pitches.items() if start - 1e-3 <= at < end - 1e-3]
        assert sounding == [chord] * beats_per_bar


def test_the_form_is_told_section_by_section(files, cache):
    for number in range(10):
        song = mma.sketch(files, 5, number)
        letters = "".join(letter for letter, _ in song.sections)
        assert letters == song.facts["form"] * (len(letters) // len(song.facts["form"]))
        assert sum(bars for _, bars in song.sections) == len(song.chords)
    known = played(files, cache, 2)[1].annotations
    assert [section[0] for section in known["sections"][1:]] == [section[1] for section in known["sections"][:-1]]
    assert known["sections"][-1][1] == known["chords"][-1][1]
    assert {section[2] for section in known["sections"]} == set(known["form"])


def test_sections_b_are_played_by_the_second_groove(files):
    song = next(
        song
        for song in (mma.sketch(files, 0, number) for number in range(50))
        if song.facts["form"] == "ABAB" and len(song.facts["grooves"]) == 2
    )
    first, second = song.facts["grooves"]
    changes = [line.split()[1] for line in song.text.splitlines() if line.startswith("Groove")]
    assert changes == [first, second] * (len(changes) // 2)


def test_keys_are_kept(files):
    """The root of every chord is of the key's scale."""
    scales = {"major": {0, 2, 4, 5, 7, 9, 11}, "minor": {0, 2, 3, 5, 7, 8, 10}}
    for number in range(60):
        song = mma.sketch(files, 9, number)
        tonic, mode = song.facts["key"].split(":")
        roots = {(NOTES.index(c.split(":")[0]) - NOTES.index(tonic)) % 12 for c in song.chords}
        assert roots <= scales[mode]


def test_what_mma_refuses_is_named(files, cache):
    song = next(song for song in (mma.sketch(files, 0, n) for n in range(500)) if song.style == "broken")
    with pytest.raises(MidiError, match="mma: exit status 1: ERROR: no such thing"):
        mma.play(song, cache / "mma")


def test_songs_of_a_groove_file_are_on_one_side():
    candidates = []
    for number in range(200):
        source = Source(f"{number}", "none", b"", {}, group=mma.group_of(f"style{number % 20}"))
        candidates.append(plan.Candidate(source, f"{number * 2**40:064x}"[::-1], 100.0, 2))
    sides = {}
    for song in plan.choose(candidates, None):
        sides.setdefault(song.candidate.source.group, set()).add(song.folder.split("/")[0])
    assert len(sides) == 20
    assert all(len(splits) == 1 for splits in sides.values())
    assert {split for splits in sides.values() for split in splits} == set(plan.SPLITS)


def test_songs_are_rendered_with_what_is_known_of_them(cache, tmp_path, capsys):
    out = tmp_path / "out"
    mini_slakh(out, source="mma", minutes=1, seed=4, cache=cache, workers=1)
    assert "grooves of Debian mma 21.09-1, seed 4 (GPL-2.0-or-later)" in capsys.readouterr().out
    songs = sorted(out.glob("*/*/metadata.yaml"))
    assert {path.parts[-3] for path in songs} == set(plan.SPLITS)
    for path in songs:
        metadata = yaml.safe_load(path.read_text())
        known, seconds = metadata["annotations"], metadata["seconds"]
        style = metadata["labels"]["style"]
        assert path.parts[-3] == plan.split_of(mma.group_of(style))
        assert known["grooves"][0].lower().startswith(style)
        assert known["beats"][0] == known["downbeats"][0] == known["chords"][0][0] == 0
        assert known["beats"][-1] < seconds
        assert known["chords"][-1][1] <= seconds
        assert np.diff(known["downbeats"]) == pytest.approx(known["beats_per_bar"] * 60 / known["tempo"], abs=1e-4)
    track = next(Slakh2100(Slakh2100.Config(str(out))).tracks("train"))
    assert len(track.stems) == 3
    mini_slakh(out, source="mma", minutes=1, seed=4, cache=cache, workers=1)
    assert "is complete already" in capsys.readouterr().out


def test_the_seed_decides_the_songs_and_each_split_gets_its_share(cache):
    def gathered(seed):
        return sources.gather("mma", folder=None, licence="", cache=cache, minutes=2, seed=seed, longest=30)

    music = gathered(0)
    assert music.digest() == gathered(0).digest() != gathered(1).digest()
    splits = [plan.split_of(source.group) for source in music.sources]
    assert {split: splits.count(split) for split in plan.SPLITS} == plan.shares(4)


def test_without_minutes_or_grooves_it_is_said_what_to_do(cache, tmp_path):
    with pytest.raises(DataError, match="mma is unlimited: give --minutes"):
        mini_slakh(tmp_path / "out", source="mma", cache=cache, workers=1)
    (tmp_path / "cache/mma").mkdir(parents=True)
    (tmp_path / "cache/mma/VERSION").write_text("1")
    with pytest.raises(DataError, match="holds no grooves; delete its folder and run again"):
        mini_slakh(tmp_path / "out", source="mma", minutes=1, cache=tmp_path / "cache", workers=1)
