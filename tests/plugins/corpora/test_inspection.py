"""`accomp corpus inspect`: what each corpus holds, heard and counted, and how it was guessed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from corpus_trees import write_sound

from accomp.core.errors import DataError
from accomp.core.registry import Registry
from accomp.plugins.corpora.folder import Folder
from accomp.plugins.corpora.inspection import examine, inspect


def told(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["slakh2100", "cocochorales", "moisesdb", "musdb18hq", "folder"])
def test_every_corpus_can_be_inspected(name, tmp_path, capsys):
    plugin = Registry(third_party=False).find("corpus", name).load()
    root = plugin.example_config(tmp_path).root
    inspect(tmp_path, name, as_json=True)
    found = told(capsys)
    for split in plugin(plugin.Config(root=root)).splits:
        assert found[split]["songs"] == 1
        assert found[split]["stems"] == sum(found[split]["classes"].values()) >= 1
        assert sum(found[split]["sample_rates"].values()) == found[split]["stems"]
        assert sum(found[split]["licences"].values()) == 1
        assert len(found[split]["bandwidth"]) == 1
    inspect(tmp_path, name)
    out = capsys.readouterr().out
    for what in ("songs", "classes", "sample rates", "bandwidth", "licences", "problems"):
        assert what in out


def test_bandwidth_is_heard_and_not_read_from_the_rate(tmp_path, capsys):
    """Sound made at 16 kHz and stored at 48 kHz has nothing above 8 kHz, and a song is what its stems are together."""
    for song, reach in (("a", 4000), ("b", 8000)):
        for name, top in (("bass", 500), ("drums", reach)):
            time = np.arange(48000) / 48000
            sweep = np.sin(2 * np.pi * np.cumsum(np.linspace(100, top, 48000)) / 48000)
            path = tmp_path / "train" / song / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.3 * sweep * np.sin(np.pi * time) ** 2, 48000)
    found = examine(Folder(Folder.Config(str(tmp_path))), "train")["bandwidth"]
    assert found["train/a"] == pytest.approx(4000, rel=0.05)
    assert found["train/b"] == pytest.approx(8000, rel=0.05)
    inspect(tmp_path, "folder")
    assert "(2 songs analysed)" in capsys.readouterr().out
    inspect(tmp_path, "folder", listen=0)
    assert "bandwidth: not measured" in capsys.readouterr().out


def test_few_songs_are_heard_and_always_the_same(tmp_path):
    for number in range(12):
        write_sound(tmp_path / f"train/song {number:02}/bass.wav", rate=8000, seconds=0.1)
    heard = [examine(Folder(Folder.Config(str(tmp_path))), "train", listen=3)["bandwidth"] for _ in range(2)]
    assert heard[0] == heard[1]
    assert len(heard[0]) == 3
    assert list(heard[0]) != [f"train/song {number:02}" for number in range(3)], "not the beginning alone"


def test_a_song_that_cannot_be_heard_is_a_problem_once(tmp_path):
    write_sound(tmp_path / "train/a/bass.wav")
    broken = tmp_path / "train/b/bass.wav"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"RIFF and no more")
    found = examine(Folder(Folder.Config(str(tmp_path))), "train")
    assert list(found["bandwidth"]) == ["train/a"]
    (problem,) = found["problems"]
    assert str(broken) in problem


def test_guesses_and_other_keys_of_the_config(tmp_path, capsys):
    write_sound(tmp_path / "train/a/xyz.wav")
    inspect(tmp_path, "folder")
    assert "Unknown, used as context only" in capsys.readouterr().out
    inspect(tmp_path, "folder", as_json=True)
    assert len(told(capsys)["notes"]) == 2
    inspect(tmp_path, "folder", config=['classes={"x*" = "Guitar"}'], as_json=True)
    assert told(capsys)["train"]["classes"] == {"Guitar": 1}
    with pytest.raises(DataError, match="unknown key 'clases'; did you mean 'classes'"):
        inspect(tmp_path, "folder", config=["clases={}"])
