"""`accomp corpus mini-slakh` as a whole: the layout, the splits, what is left out, stopping and going on."""

import errno
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import yaml
from midi_files import band, control, midi_file, note, program, wad_file

from accomp.core.audio.loudness import loudness
from accomp.core.errors import DataError
from accomp.plugins.corpora import debian, pool
from accomp.plugins.corpora.mini_slakh import command, composer, plan, sources
from accomp.plugins.corpora.mini_slakh.command import mini_slakh
from accomp.plugins.corpora.mini_slakh.midi import read
from accomp.plugins.corpora.slakh2100 import Slakh2100


def tree(folder):
    """Every file under a folder, as bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def record(out):
    return json.loads((out / "SOURCES.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven good songs, two of them one song, and six files that are none."""
    where = tmp_path_factory.mktemp("midi")
    for number in range(5):
        (where / f"tune{number}.mid").write_bytes(band(tune=number, bpm=100 + 10 * number))
    (where / "again.MID").write_bytes(band(tune=2, shift=2, bpm=140))
    silent = program(0) + control(0, 7, 0) + [e for b in range(40) for e in note(b * 480, 60 + b % 5)]
    loud = program(33, 1) + [e for b in range(40) for e in note(b * 480, 40 + b % 7, channel=1)]
    drums = [e for b in range(40) for e in note(b * 480, 36, channel=9)]
    (where / "mute.mid").write_bytes(midi_file(silent, loud, drums))
    (where / "lonely.mid").write_bytes(midi_file(silent, loud + note(40 * 480, 30, channel=1)))
    (where / "broken.mid").write_bytes(band()[:-100])
    (where / "words.mid").write_bytes(b"not music")
    (where / "short.mid").write_bytes(band(8))
    (where / "bad.wad").write_bytes(b"PWAD")
    (where / "sub").mkdir()
    (where / "sub" / "game.wad").write_bytes(wad_file(("D_ONE", band(tune=9)), ("D_MUS", b"MUS\x1a" + bytes(9))))
    return where


@pytest.fixture(scope="module")
def rendered(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "out"
    mini_slakh(out, midi=folder, licence="CC BY 4.0", longest=16, workers=1)
    return out


def songs_of(out):
    return sorted(path.parent for path in out.glob("*/*/metadata.yaml"))


def test_the_layout_is_slakhs(rendered):
    for song in songs_of(rendered):
        metadata = yaml.safe_load((song / "metadata.yaml").read_text())
        assert {"UUID", "audio_dir", "midi_dir", "normalized", "overall_gain", "stems"} <= set(metadata)
        assert (metadata["audio_dir"], metadata["midi_dir"]) == ("stems", "MIDI")
        assert metadata["licence"] == "CC BY 4.0"
        assert metadata["sample_rate"] == 32_000
        names = [f"S{number:02d}" for number in range(len(metadata["stems"]))]
        assert sorted(metadata["stems"]) == names
        for stem in metadata["stems"].values():
            assert set(stem) == {
                "audio_rendered",
                "inst_class",
                "integrated_loudness",
                "is_drum",
                "midi_program_name",
                "midi_saved",
                "plugin_name",
                "program_num",
            }
        files = {str(path.relative_to(song)) for path in song.rglob("*") if path.is_file()}
        assert files == {
            "metadata.yaml",
            "mix.flac",
            "all_src.mid",
            *(f"stems/{name}.flac" for name in names),
            *(f"MIDI/{name}.mid" for name in names),
        }


def test_stems_add_up_to_the_mix_and_none_clips_or_is_silent(rendered):
    for song in songs_of(rendered):
        metadata = yaml.safe_load((song / "metadata.yaml").read_text())
        mix, rate = soundfile.read(song / "mix.flac")
        stems = {path.stem: soundfile.read(path)[0] for path in sorted((song / "stems").iterdir())}
        assert rate == 32_000
        assert {stem.shape for stem in stems.values()} == {mix.shape}
        assert np.abs(np.sum(list(stems.values()), axis=0) - mix).max() < len(stems) / 32_768
        assert max(np.abs(sound).max() for sound in (mix, *stems.values())) <= 0.951
        assert loudness(mix, rate) == pytest.approx(-18, abs=0.1) or np.abs(mix).max() > 0.9
        for name, stem in stems.items():
            assert loudness(stem, rate) > -60
            assert metadata["stems"][name]["integrated_loudness"] == pytest.approx(loudness(stem, rate), abs=0.2)


def test_midi_of_a_stem_is_what_the_stem_plays(rendered):
    for song in songs_of(rendered):
        everything = []
        for path in sorted((song / "MIDI").iterdir()):
            events = [m for m in mido.MidiFile(path).tracks[1] if m.type == "note_on"]
            everything += [(m.channel, m.note) for m in events]
            sound, rate = soundfile.read(song / "stems" / f"{path.stem}.flac")
            first = np.flatnonzero(np.abs(sound) > 1e-3)[0] / rate
            assert first < 0.05
        whole = mido.MidiFile(song / "all_src.mid")
        assert sorted((m.channel, m.note) for t in whole.tracks for m in t if m.type == "note_on") == sorted(everything)


def test_the_corpus_plugin_reads_it_and_no_music_is_on_two_sides(rendered):
    reader = Slakh2100(Slakh2100.Config(root=str(rendered)))
    seen = {}
    for split in reader.splits:
        if (rendered / split).is_dir():
            for track in reader.tracks(split):
                assert len(track.stems) >= 2
                data = (rendered / split / track.id / "all_src.mid").read_bytes()
                seen.setdefault(read(data, longest=100).fingerprint, []).append((split, track.source))
    assert reader.problems == []
    assert len(seen) == 7
    assert all(len(names) == 1 for names in seen.values())


def test_songs_are_labelled_by_the_folder_they_are_in(folder, rendered):
    reader = Slakh2100(Slakh2100.Config(root=str(rendered)))
    splits = [split for split in reader.splits if (rendered / split).is_dir()]
    songs = {track.source: track.labels for split in splits for track in reader.tracks(split)}
    name = folder.name
    assert songs.pop(f"{name}: sub/game.wad: D_ONE") == {"style": "sub"}
    assert len(songs) == 6
    assert all(labels == {"style": name} for labels in songs.values())


def test_songs_from_before_labels_get_them_and_keep_those_of_their_own(folder, rendered, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(rendered, out)
    for number, song in enumerate(songs_of(out)):
        metadata = yaml.safe_load((song / "metadata.yaml").read_text())
        del metadata["labels"]
        if number == 3:
            metadata["labels"] = {"genre": "polka"}
        (song / "metadata.yaml").write_text(yaml.safe_dump(metadata, allow_unicode=True))
    own = songs_of(out)[3] / "metadata.yaml"
    kept = own.read_bytes()
    sounds = {path: path.stat().st_mtime_ns for path in out.glob("*/*/stems/*")}
    mini_slakh(out, midi=folder, licence="CC BY 4.0", longest=16, workers=1)
    said = capsys.readouterr().out
    assert "6 songs of an earlier run received labels or annotations" in said
    assert "is complete already: 7 songs" in said
    assert own.read_bytes() == kept
    own.write_bytes((rendered / own.relative_to(out)).read_bytes())
    assert tree(out) == tree(rendered)
    assert all(path.stat().st_mtime_ns == time for path, time in sounds.items())
    mini_slakh(out, midi=folder, licence="CC BY 4.0", longest=16, workers=1)
    assert "received labels" not in capsys.readouterr().out


def test_what_is_left_out_is_named_and_counted(folder, rendered, tmp_path, capsys):
    why = {row["name"].split(": ", 1)[1]: row["why"] for row in record(rendered)["left_out"]}
    assert why.pop("tune2.mid").startswith("the same music as")
    assert "broken MIDI" in why.pop("broken.mid")
    assert "not a MIDI file" in why.pop("words.mid")
    assert "s long; expected at least 15 s" in why.pop("short.mid")
    assert "truncated WAD file" in why.pop("bad.wad")
    assert "MUS score" in why.pop("sub/game.wad: D_MUS")
    assert "1 audible stem(s); expected at least 2" in why.pop("lonely.mid")
    assert why == {}
    mute = [s for s in songs_of(rendered) if "mute" in (s / "metadata.yaml").read_text()]
    metadata = yaml.safe_load((mute[0] / "metadata.yaml").read_text())
    assert metadata["silent_stems"] == ["Acoustic Grand Piano"]
    assert len(metadata["stems"]) == 2

    mini_slakh(tmp_path / "out", midi=folder, minutes=0.25, workers=1)
    said = capsys.readouterr().out
    assert "1 songs, 0.2 minutes of mix" in said or "1 songs, 0.3 minutes of mix" in said
    assert "left out: 6" in said
    assert f"{folder.name}/ (unstated)" in said
    assert "TimGM6mb.sf2 (GPL-2.0" in said


def test_the_same_music_gives_the_same_bytes_however_many_work(folder, rendered, tmp_path):
    again = tmp_path / "again"
    mini_slakh(again, midi=folder, licence="CC BY 4.0", longest=16, workers=2)
    assert tree(again) == tree(rendered)


def test_a_second_run_renders_only_what_is_missing(folder, rendered, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(rendered, out)
    gone, stale = songs_of(out)[2], out / "train" / ".Track00001.half"
    shutil.rmtree(gone)
    stale.mkdir(parents=True, exist_ok=True)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/*/mix.flac")}
    mini_slakh(out, midi=folder, licence="CC BY 4.0", longest=16, workers=1)
    assert tree(out) == tree(rendered)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert not stale.exists()
    capsys.readouterr()
    mini_slakh(out, midi=folder, licence="CC BY 4.0", longest=16, workers=1)
    assert "is complete already: 7 songs" in capsys.readouterr().out


def test_a_run_that_dies_is_finished_by_the_next(folder, rendered, tmp_path, monkeypatch):
    """The disk fills up after two songs; the third leaves nothing behind."""
    write, calls = command.render_song, []

    def full(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments, **options)

    out = tmp_path / "out"
    monkeypatch.setattr(command, "render_song", full)
    with pytest.raises(DataError, match="No space left on device; free some space and run the same command again"):
        mini_slakh(out, midi=folder, licence="CC BY 4.0", longest=16, workers=1)
    assert len(songs_of(out)) == 2
    monkeypatch.setattr(command, "render_song", write)
    mini_slakh(out, midi=folder, licence="CC BY 4.0", longest=16, workers=1)
    assert tree(out) == tree(rendered)


def test_a_folder_of_other_options_or_other_things_is_refused(folder, rendered, tmp_path):
    with pytest.raises(DataError, match=r"made from other music or options \(longest was 16.*, is 20"):
        mini_slakh(rendered, midi=folder, licence="CC BY 4.0", longest=20, workers=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(DataError, match="is not empty and was not made by this command"):
        mini_slakh(tmp_path / "mine", midi=folder, workers=1)
    with pytest.raises(DataError, match="is a file"):
        mini_slakh(tmp_path / "mine" / "thesis.tex", midi=folder, workers=1)
    (tmp_path / "mine" / "SOURCES.json").write_text("[]")
    with pytest.raises(DataError, match="unreadable record"):
        mini_slakh(tmp_path / "mine", midi=folder, workers=1)


def test_wrong_options_say_what_to_do(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"no such folder; expected a folder with \.mid"):
        mini_slakh(tmp_path / "out", midi=tmp_path / "nowhere", workers=1)
    with pytest.raises(DataError, match=r"holds no \.mid"):
        mini_slakh(tmp_path / "out", midi=empty, workers=1)
    with pytest.raises(
        DataError, match="'spotify'; expected one of auto, debian, freedoom, openttd-openmsx, composer, mma"
    ):
        mini_slakh(tmp_path / "out", source="spotify", workers=1)
    with pytest.raises(DataError, match="the composer is unlimited: give --minutes"):
        mini_slakh(tmp_path / "out", source="composer", workers=1)
    with pytest.raises(DataError, match=r"no such file; expected a \.sf2"):
        mini_slakh(tmp_path / "out", font=[tmp_path / "none.sf2"], workers=1)
    (empty / "words.mid").write_bytes(b"words")
    with pytest.raises(DataError, match=r"none of 1 MIDI files can be used: empty: words\.mid: not a MIDI file"):
        mini_slakh(tmp_path / "out", midi=empty, workers=1)
    assert not (tmp_path / "out").exists()


def test_composed_songs_come_with_their_beats_and_chords(tmp_path, capsys):
    out = tmp_path / "out"
    mini_slakh(out, source="composer", minutes=1, seed=4, workers=1)
    said = capsys.readouterr().out
    assert "accomp's composer, seed 4 (CC0-1.0)" in said
    assert {song.parent.name for song in songs_of(out)} == set(plan.SPLITS)
    for song in songs_of(out):
        metadata = yaml.safe_load((song / "metadata.yaml").read_text())
        known = metadata["annotations"]
        number = int(metadata["source"].rsplit(" ", 1)[1])
        whole = composer.compose(4, number).annotations
        assert known["tempo"] == whole["tempo"]
        assert 0 <= known["beats"][0] < 0.01
        assert metadata["seconds"] - 60 / known["tempo"] <= known["beats"][-1] < metadata["seconds"]
        assert np.diff(known["beats"]) == pytest.approx(60 / known["tempo"], abs=1e-4)
        assert known["chords"][0][0] == 0
        assert known["chords"][-1][1] == pytest.approx(metadata["seconds"], abs=1e-6)
        first = known["chords"][0][2].split(":")[0]
        keys = mido.MidiFile(song / "all_src.mid")
        lowest = min(
            m.note for t in keys.tracks for m in t if m.type == "note_on" and m.channel == 1
        )  # the bass stays within an octave and a half above its roots
        assert 28 <= lowest < 52
        assert first in ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")


def fake_tool(folder, name, script):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def no_tools(tmp_path, monkeypatch):
    """A machine without apt and dpkg; returns the folder where it looks for programs."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def gather(kind, cache, **options):
    return sources.gather(kind, folder=None, licence="", cache=cache, minutes=0.25, seed=0, longest=15, **options)


def test_without_apt_the_composer_plays_and_it_is_said(no_tools, tmp_path):
    music = gather("auto", tmp_path / "cache")
    assert {source.licence for source in music.sources} == {composer.LICENCE}
    assert all(source.labels == {"style": "composer"} for source in music.sources)
    assert "apt-get and dpkg-deb not found" in music.notices[0]
    assert music.notices[-1] == "no MIDI files are available: using the built-in composer"
    with pytest.raises(DataError, match="cannot fetch Debian package freedoom: apt-get and dpkg-deb not found; or use"):
        gather("debian", tmp_path / "cache")


def test_what_apt_says_is_passed_on(no_tools, tmp_path):
    fake_tool(no_tools, "apt-get", "echo 'E: No route to' $1 >&2; exit 100")
    fake_tool(no_tools, "dpkg-deb", "exit 0")
    with pytest.raises(DataError, match=r"E: No route to update; check that `apt-get update`"):
        gather("debian", tmp_path / "cache")
    assert len(gather("auto", tmp_path / "cache").notices) == len(sources.DEBIAN) + 1


def test_packages_are_fetched_once_and_read(no_tools, tmp_path):
    """A stand-in for apt and dpkg, which hands out packages that hold two songs each."""
    songs = tmp_path / "songs"
    songs.mkdir()
    (songs / "game.wad").write_bytes(wad_file(("D_A", band()), ("D_B", band(tune=5))))
    (songs / "tune.mid").write_bytes(band(tune=9))
    fake_tool(no_tools, "apt-get", f"echo $2 >> {tmp_path}/calls; : > $2_1.2-3_all.deb")
    copy = f"/bin/cp {songs}/* $3/"
    fake_tool(no_tools, "dpkg-deb", f'if [ "$1" = -f ]; then echo 1.2-3; else {copy}; fi')
    for _ in range(2):
        music = gather("debian", tmp_path / "cache")
        names = sorted(source.name for source in music.sources)
        assert names[:3] == [
            "freedoom 1.2-3: game.wad: D_A",
            "freedoom 1.2-3: game.wad: D_B",
            "freedoom 1.2-3: tune.mid",
        ]
        assert {source.licence for source in music.sources} == {"BSD-3-Clause", "GPL-2.0-only"}
        assert {source.labels["style"] for source in music.sources} == set(sources.DEBIAN)
        assert music.used == ["Debian freedoom 1.2-3 (BSD-3-Clause)", "Debian openttd-openmsx 1.2-3 (GPL-2.0-only)"]
    assert (tmp_path / "calls").read_text().split() == list(sources.DEBIAN)


def test_without_package_lists_it_fetches_its_own(no_tools, tmp_path, monkeypatch):
    """Into a cache folder that is named as seen from here."""
    monkeypatch.chdir(tmp_path)
    songs = tmp_path / "songs"
    songs.mkdir()
    (songs / "tune.mid").write_bytes(band())
    script = f"""echo "$@" >> {tmp_path}/calls
case "$*" in
  update*Lists=*) : > "${{3#*=}}/fetched";;
  *Lists=*) test -e "${{4#*=}}/fetched" && : > $2_1_all.deb;;
  *) echo "E: Unable to locate package" >&2; exit 100;;
esac"""
    fake_tool(no_tools, "apt-get", script)
    fake_tool(no_tools, "dpkg-deb", f'if [ "$1" = -f ]; then echo 1; else /bin/cp {songs}/* $3/; fi')
    assert gather("debian", Path("cache")).used[0] == "Debian freedoom 1 (BSD-3-Clause)"
    calls = [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls == ["download", "update", "download"] * len(sources.DEBIAN)


def test_a_failed_download_leaves_no_package_behind(no_tools, tmp_path):
    fake_tool(no_tools, "apt-get", ": > x.deb")
    fake_tool(no_tools, "dpkg-deb", 'if [ "$1" = -f ]; then echo 1; else exit 2; fi')
    with pytest.raises(DataError, match="dpkg-deb -x: exit status 2"):
        gather("debian", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order(workers):
    jobs = [5, 3, 8, 1]
    assert list(pool.each(functools.partial(pow, 2), jobs, workers)) == [(job, 2**job) for job in jobs]


def test_a_killed_worker_is_a_clear_error():
    with pytest.raises(DataError, match="a worker process died"):
        list(pool.each(os._exit, [9, 9], 2))


PARENT = """
import sys
from accomp.plugins.corpora.pool import each
from lingering import linger
if __name__ == "__main__":
    list(each(linger, sys.argv[1:], 2))
"""
LINGER = """
import os, pathlib, time
def linger(path):
    pathlib.Path(path).write_text(str(os.getpid()))
    time.sleep(60)
"""


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def is_alive(pid):
    """Whether a process runs; one that ended and waits to be collected does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks Linux's /proc which processes run")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_a_run_that_is_stopped(how, tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "lingering.py").write_text(LINGER)
    files = [tmp_path / "0", tmp_path / "1"]
    parent = subprocess.Popen([sys.executable, "parent.py", *map(str, files)], cwd=tmp_path, start_new_session=True)
    assert until(lambda: all(file.exists() and file.read_text() for file in files))
    workers = [int(file.read_text()) for file in files]
    if how is signal.SIGINT:
        os.killpg(parent.pid, how)  # as a terminal sends it: to parent and workers
    else:
        os.kill(parent.pid, how)
    parent.wait(timeout=30)
    assert until(lambda: not any(map(is_alive, workers)))


def test_the_default_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert debian.default_cache() == tmp_path / "accomp" / "debian"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert debian.default_cache() == Path.home() / ".cache" / "accomp" / "debian"


def test_a_composed_song_reads_as_midi():
    assert mido.MidiFile(file=io.BytesIO(composer.compose(0, 1).midi)).length >= composer.SHORTEST - 5
