"""`accomp corpus game-music`: what is written, the splits, the licences, what is left out, stopping and going on."""

import errno
import hashlib
import io
import json
import zipfile
from pathlib import PurePosixPath

import numpy as np
import pytest
import soundfile

from accomp.core.errors import DataError
from accomp.plugins.corpora import debian, game_music, licences
from accomp.plugins.corpora.game_music import name_of, split_of

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2002 A
License: GPL-2+

Files:
 base/music/quiet song.ogg
 base/music/q*.ogg
Copyright: 2003 B
License: CC-BY-3.0

License: GPL-2+
 On Debian systems ...
"""
NOTICE = """For all tracks *except* menu_enhanced:

'Some Soundtrack' is licensed and available under:
CC-BY-SA-3.0 (or any later version), or the GNU General Public License Version 2 or later.

menu_enhanced is derived from the original
and is licensed under the terms of the GNU General Public License Version 2 or later (the "GPL").
"""


def tone(seconds=20.5, rate=8000, level=0.5, channels=2):
    """[N, channels]: a tone, louder on the left."""
    time = np.arange(round(seconds * rate)) / rate
    return level * np.sin(2 * np.pi * 440 * time)[:, None] * np.linspace(1, 0.5, channels)


def encoded(sound, rate=8000, format="OGG", subtype="VORBIS"):
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def package(cache, name, files, *, copyright=COPYRIGHT, version="1.0-2"):
    """A package as it lies unpacked in a cache."""
    for path, data in {
        "VERSION": version.encode(),
        f"usr/share/doc/{name}/copyright": copyright.encode(),
        **files,
    }.items():
        (cache / name / path).parent.mkdir(parents=True, exist_ok=True)
        (cache / name / path).write_bytes(data)


def archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(f"music/{name}.ogg", data)
        file.writestr("readme.txt", "no music")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    short = encoded(tone(5))
    package(
        cache,
        "alpha-music",
        {
            "usr/share/games/alpha/base/0music.pk3": archive(
                quietly=encoded(tone()), menu=encoded(tone()), jingle=short
            ),
            "usr/share/games/alpha/base/broken.ogg": b"OggS, but no more",
        },
    )
    package(
        cache,
        "beta-music",
        {
            "usr/share/beta/albums/one/license.txt": NOTICE.encode(),
            "usr/share/beta/albums/one/menu_enhanced.opus": encoded(tone(), 24_000 // 3, "OGG", "OPUS"),
            "usr/share/beta/albums/one/track1.flac": encoded(tone(), 8000, "FLAC", "PCM_16"),
            "usr/share/beta/loud.wav": encoded(tone(20.5, 32_000, 1.5, 1), 32_000, "WAV", "FLOAT"),
        },
    )
    return cache


PACKAGES = ["alpha-music", "beta-music"]


@pytest.fixture(scope="module")
def made(cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("music") / "out"
    game_music.game_music(out, package=PACKAGES, cache=cache, workers=1)
    return out


def record(out):
    return json.loads((out / "SOURCES.json").read_text())


def rows(out):
    return {row["file"].rpartition("/")[2]: row for row in record(out)["pieces"]}


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_piece_is_mono_at_32_khz_in_its_split(made):
    files = sorted(str(path.relative_to(made)) for path in made.glob("**/*.flac"))
    assert files == sorted(row["path"] for row in record(made)["pieces"])
    assert len(files) == 5
    for row in record(made)["pieces"]:
        info = soundfile.info(made / row["path"])
        assert (info.samplerate, info.channels, info.subtype) == (32_000, 1, "PCM_16")
        assert row["seconds"] == pytest.approx(info.frames / 32_000)
        assert row["path"].split("/")[:2] == [row["split"], row["package"]]


def test_channels_are_averaged_and_nothing_but_peaks_is_changed(made):
    sound, _ = soundfile.read(made / rows(made)["track1.flac"]["path"])
    middle = sound[100_000:400_000]
    assert np.sqrt(2) * middle.std() == pytest.approx(0.5 * 0.75, rel=1e-3)
    wave = 0.5 * 0.75 * np.sin(2 * np.pi * 440 * np.arange(100_000, 400_000) / 32_000)
    assert np.abs(middle - wave).max() < 1e-3
    loud = rows(made)["loud.wav"]
    true = tone(20.5, 32_000, 1.5, 1)[:, 0]
    assert loud["clipped_samples"] == int((np.abs(true) > 1).sum())
    assert np.abs(soundfile.read(made / loud["path"])[0] - true.clip(-1, 1)).max() < 1e-4
    assert rows(made)["track1.flac"]["clipped_samples"] == 0


def test_names_and_splits_are_those_of_the_rule():
    assert name_of(PurePosixPath("sound/cdtracks/desert3.ogg"), alone=False) == "cdtracks-desert3"
    assert name_of(PurePosixPath("cdtracks/sixtyfour_.ogg"), alone=False) == "sixtyfour-"
    assert name_of(PurePosixPath("core/music/sad.ogg"), alone=True) == "sad"
    assert name_of(PurePosixPath("music/AlexFight mare!.ogg"), alone=False) == "alexfight-mare-"
    assert [split_of(name) for name in ("vengeful", "sad", "music-menu", "battle", "cdtracks-infight")] == [
        "test",
        "validation",
        "validation",
        "train",
        "test",
    ]
    drawn = [split_of(f"piece {number}") for number in range(20_000)]
    shares = {split: drawn.count(split) / len(drawn) for split in ("train", "validation", "test")}
    assert shares == pytest.approx({"train": 0.88, "validation": 0.06, "test": 0.06}, abs=0.01)


def test_two_pieces_of_one_name_are_both_written_in_one_split(tmp_path):
    data = encoded(tone(channels=1), 8000, "FLAC", "PCM_16")
    package(tmp_path, "gamma", {"usr/a/one tune here.flac": data, "usr/b/one-tune-here.flac": data})
    first, second = game_music.pieces_of(debian.Unpacked("gamma", "1", tmp_path / "gamma"))
    assert (first.name, second.name) == ("one-tune-here", "one-tune-here-2")
    assert first.split == second.split == split_of("one-tune-here")


def test_the_source_and_licence_of_every_piece_are_recorded(made, cache):
    found = rows(made)
    assert {name: row["licence"] for name, row in found.items()} == {
        "quietly.ogg": "CC-BY-3.0",
        "menu.ogg": "GPL-2+",
        "menu_enhanced.opus": "GPL-2+",
        "track1.flac": "CC-BY-SA-3.0",
        "loud.wav": "GPL-2+",
    }
    assert found["menu.ogg"]["file"] == "usr/share/games/alpha/base/0music.pk3:music/menu.ogg"
    assert {row["version"] for row in found.values()} == {"1.0-2"}
    data = (cache / "beta-music" / found["track1.flac"]["file"]).read_bytes()
    assert found["track1.flac"]["sha256"] == hashlib.sha256(data).hexdigest()
    with zipfile.ZipFile(cache / "alpha-music/usr/share/games/alpha/base/0music.pk3") as file:
        assert found["menu.ogg"]["sha256"] == hashlib.sha256(file.read("music/menu.ogg")).hexdigest()


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (
            "under the terms of the GNU General Public License\nas published by the Free Software Foundation; either "
            "version 2\nof the License, or (at your option) any later version.",
            "GPL-2+",
        ),
        (
            "under the terms of the GNU General Public License version 2\n   or at your option any later version.",
            "GPL-2+",
        ),
        ("the GNU General Public License, version 3.", "GPL-3"),
        ("Creative Commons CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0"),
        ("All rights reserved.", None),
    ],
)
def test_licences_are_recognised_in_prose(text, licence):
    assert licences.named(text) == licence


def test_a_licence_that_is_not_recognised_is_pointed_to(tmp_path):
    package(tmp_path, "p", {}, copyright="You may do as you like.")
    assert licences.licence_of("p", tmp_path / "p", PurePosixPath("usr/x.ogg")) == "see usr/share/doc/p/copyright"
    assert licences.licence_of("q", tmp_path / "p", PurePosixPath("usr/x.ogg")) == "unstated"


def test_what_is_left_out_is_named_with_its_reason(made, cache, capsys):
    why = {row["file"].rpartition("/")[2]: row["why"] for row in record(made)["left_out"]}
    assert why.pop("jingle.ogg") == "5.0 s long; expected at least 20 s"
    assert why.pop("broken.ogg").startswith("cannot be read: ")
    assert why == {}
    game_music.game_music(made, package=PACKAGES, cache=cache, workers=1)
    said = capsys.readouterr().out
    assert "5 pieces, 1.7 minutes" in said
    assert "left out: 2" in said
    assert "jingle.ogg: 5.0 s long" in said


def test_the_same_packages_give_the_same_bytes_however_many_work(made, cache, tmp_path):
    game_music.game_music(tmp_path / "out", package=PACKAGES, cache=cache, workers=2)
    assert tree(tmp_path / "out") == tree(made)


def test_packages_may_be_added_later(made, cache, tmp_path):
    for name in PACKAGES:
        game_music.game_music(tmp_path / "out", package=[name], cache=cache, workers=1)
    assert tree(tmp_path / "out") == tree(made)


def test_a_run_that_dies_is_finished_by_the_next(made, cache, tmp_path, monkeypatch):
    """The disk fills up in the middle of the third piece; what was finished is not written again."""
    out = tmp_path / "out"
    write, calls = soundfile.write, []

    def full(path, *arguments, **options):
        calls.append(path)
        write(path, *arguments, **options)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(game_music.soundfile, "write", full)
    with pytest.raises(DataError, match="No space left on device; free some space and run the same command again"):
        game_music.game_music(out, package=PACKAGES, cache=cache, workers=1)
    assert len(list(out.glob("**/*.flac"))) == len(record(out)["pieces"]) == 2
    assert len(list(out.glob("**/.*.part"))) == 1
    game_music.game_music(out, package=PACKAGES, cache=cache, workers=1)
    assert len(calls) == 3 + 3
    assert tree(out) == tree(made)


def test_other_folders_and_other_versions_are_refused(made, cache, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(DataError, match="is not empty and was not made by this command"):
        game_music.game_music(tmp_path / "mine", package=PACKAGES, cache=cache, workers=1)
    with pytest.raises(DataError, match="is a file"):
        game_music.game_music(tmp_path / "mine" / "thesis.tex", package=PACKAGES, cache=cache, workers=1)
    package(
        tmp_path / "newer", "beta-music", {"usr/some music.flac": encoded(tone(), 8000, "FLAC", "PCM_16")}, version="2"
    )
    with pytest.raises(DataError, match=r"made from beta-music 1\.0-2, now it is 2; name another folder"):
        game_music.game_music(made, package=["beta-music"], cache=tmp_path / "newer", workers=1)


def test_packages_without_usable_music_are_an_error(tmp_path):
    package(tmp_path, "words", {})
    with pytest.raises(DataError, match=r"words 1\.0-2 holds no audio .*; name another with --package"):
        game_music.game_music(tmp_path / "out", package=["words"], cache=tmp_path, workers=1)
    package(tmp_path, "noise", {"usr/x.ogg": b"OggS"})
    with pytest.raises(DataError, match=r"none of 1 pieces can be used: usr/x\.ogg: cannot be read"):
        game_music.game_music(tmp_path / "out", package=["noise"], cache=tmp_path, workers=1)
    package(tmp_path, "torn", {"usr/x.pk3": b"PK"})
    with pytest.raises(DataError, match=r"cannot read archive: .*delete the package's folder"):
        game_music.game_music(tmp_path / "out", package=["torn"], cache=tmp_path, workers=1)


def fake_tool(folder, name, script):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_size_is_told_before_a_package_is_fetched(tmp_path, monkeypatch, capsys):
    """A stand-in for apt and dpkg; its download says what has been told by then."""
    (tmp_path / "tune.wav").write_bytes(encoded(tone(channels=1), 8000, "WAV", "PCM_16"))
    uris = "'http://deb.example/a_1.deb' delta_1.deb 153244368 SHA256:00"
    fake_tool(
        tmp_path / "bin",
        "apt-get",
        f'if [ "$2" = --print-uris ]; then echo "{uris}"; else echo "$@" >> {tmp_path}/calls; : > $2_1.deb; fi',
    )
    fake_tool(
        tmp_path / "bin", "dpkg-deb", f'if [ "$1" = -f ]; then echo 1; else /bin/cp {tmp_path}/tune.wav "$3"/; fi'
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for _ in range(2):
        game_music.game_music(tmp_path / "out", package=["delta"], cache=tmp_path / "cache", workers=1)
    said = capsys.readouterr().out
    assert said.startswith("fetching Debian package delta: 153 MB\n")
    assert said.count("fetching") == 1
    assert (tmp_path / "calls").read_text() == "download delta\n"


def test_without_apt_or_network_it_is_said_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DataError, match=r"package wesnoth-1\.16-music: apt-get and dpkg-deb not found; name packages"):
        game_music.game_music(tmp_path / "out", cache=tmp_path / "cache", workers=1)
    fake_tool(tmp_path / "bin", "apt-get", "echo 'E: Could not resolve' >&2; exit 100")
    fake_tool(tmp_path / "bin", "dpkg-deb", "exit 0")
    with pytest.raises(DataError, match=r"E: Could not resolve; check that `apt-get update` works .*--package"):
        game_music.game_music(tmp_path / "out", cache=tmp_path / "cache", workers=1)
    assert not (tmp_path / "out").exists()
