"""accomp corpus annotate: fills in what is missing, says who, and leaves alone what is known."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from accomp.core.audio import io as audio
from accomp.core.errors import DataError, PluginError
from accomp.core.music.annotations import NOTHING
from accomp.plugins.corpora import annotate as module
from accomp.plugins.corpora.annotate import Beats, Chords, annotate
from accomp.plugins.corpora.listeners import BeatThis, MadmomBeats, MadmomChords
from accomp.plugins.corpora.slakh2100 import Slakh2100

pytestmark = pytest.mark.filterwarnings("ignore:Passing more than 2 positional arguments:DeprecationWarning")
RATE = 8000


class Counting:
    """Hears a beat every half second, and E minor throughout; remembers what it was given."""

    rate, licence = RATE, "none"

    def __init__(self, name: str, heard: dict | None = None):
        self.name, self.by, self.asked = name, f"counting {name}", []
        self.heard = heard

    def hear(self, sound):
        self.asked.append(sound)
        if self.heard is not None:
            return self.heard
        seconds = len(sound) / RATE
        beats = np.arange(0, seconds, 0.5).round(4).tolist()
        whole = {"beats": {"beats": beats, "downbeats": beats[::4]}, "chords": {"chords": [[0.0, seconds, "E:min"]]}}
        return whole[self.name]


def song(folder, *, seconds: float = 6.0, level: float = 0.3, **metadata) -> None:
    tone = level * np.sin(np.arange(round(seconds * RATE)) / 5)
    entries = {}
    for number, program in enumerate((33, 0)):
        audio.write(folder / "stems" / f"S{number:02}.flac", (number + 1) / 2 * tone, RATE)
        entries[f"S{number:02}"] = {"is_drum": False, "program_num": program}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"stems": entries, "UUID": "kept", **metadata}))


def read(root, split: str = "train"):
    corpus = Slakh2100(Slakh2100.Config(str(root)))
    return {track.id: track.annotations for track in corpus.tracks(split)}


def raw(folder) -> dict:
    return yaml.safe_load((folder / "metadata.yaml").read_text())


@pytest.fixture
def listeners(monkeypatch):
    """Those that are asked, by name."""
    made = {"beats": Counting("beats"), "chords": Counting("chords")}
    monkeypatch.setattr(module, "MadmomBeats", lambda: made["beats"])
    monkeypatch.setattr(module, "MadmomChords", lambda: made["chords"])
    return made


@pytest.fixture
def root(tmp_path):
    """A song of which nothing is known, one with beats from MIDI, one with everything."""
    known = {"by": "MIDI", "tempo": 100, "beats": [0.0, 0.6, 1.2], "beats_per_bar": 3}
    song(tmp_path / "train" / "Track00001")
    song(tmp_path / "train" / "Track00002", annotations=known)
    song(tmp_path / "train" / "Track00003", annotations={**known, "chords": [[0, 1, "Am"]]})
    return tmp_path


def run(root, *, beats=Beats.madmom, chords=Chords.madmom, weights="", again=False) -> None:
    annotate(root, beats, chords, weights, again)


def test_what_is_missing_is_heard_in_the_mix_and_what_is_known_stays(root, listeners, capsys):
    before = (root / "train" / "Track00003" / "metadata.yaml").read_bytes()
    run(root)
    found = read(root)
    assert found["Track00001"].beats.times == tuple(np.arange(0, 6, 0.5))
    assert found["Track00001"].beats.bar[:5] == (0, 1, 2, 3, 0)
    assert found["Track00001"].chords[0].chord == found["Track00002"].chords[0].chord == "E:min"
    assert found["Track00002"].beats.times == (0.0, 0.6, 1.2)
    assert found["Track00002"].beats.meter == (3, 3, 3)
    assert found["Track00001"].by == "beats: counting beats; chords: counting chords"
    assert found["Track00002"].by == "MIDI; chords: counting chords"
    assert raw(root / "train" / "Track00002")["annotations"]["tempo"] == 100
    assert raw(root / "train" / "Track00001")["UUID"] == "kept"
    assert (root / "train" / "Track00003" / "metadata.yaml").read_bytes() == before
    stems = [audio.read(root / "train" / "Track00001" / "stems" / f"S0{n}.flac", RATE) for n in (0, 1)]
    np.testing.assert_allclose(listeners["beats"].asked[0][500:-500], sum(stems)[500:-500], atol=2e-3)
    told = capsys.readouterr().out
    assert "beats of 3 songs: 1 estimated, 2 annotated before, 0 without" in told
    assert "chords of 3 songs: 2 estimated, 1 annotated before, 0 without" in told


def test_called_again_it_hears_nothing_twice_unless_it_shall(root, listeners):
    run(root)
    asked = {name: len(one.asked) for name, one in listeners.items()}
    assert asked == {"beats": 1, "chords": 2}
    written = [raw(root / "train" / f"Track0000{n}") for n in (1, 2, 3)]
    run(root)
    assert {name: len(one.asked) for name, one in listeners.items()} == asked
    listeners["beats"].heard = {"beats": [1.0, 2.0, 3.0]}
    run(root, again=True)
    assert {name: len(one.asked) for name, one in listeners.items()} == {"beats": 2, "chords": 4}
    found = read(root)
    assert found["Track00001"].beats.times == (1.0, 2.0, 3.0)
    assert found["Track00001"].beats.bar == ()
    assert found["Track00001"].by == "beats: counting beats; chords: counting chords"
    assert raw(root / "train" / "Track00002") == written[1]
    assert raw(root / "train" / "Track00003") == written[2]


def test_it_goes_on_where_it_was_stopped(root, listeners, monkeypatch):
    hear, calls = listeners["chords"].hear, []

    def stop(sound):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return hear(sound)

    monkeypatch.setattr(listeners["chords"], "hear", stop)
    with pytest.raises(KeyboardInterrupt):
        run(root)
    assert read(root)["Track00001"].chords
    assert not read(root)["Track00002"].chords
    run(root)
    assert len(listeners["beats"].asked) == 1
    assert read(root)["Track00002"].chords


def test_one_of_them_alone(root, listeners):
    run(root, beats=Beats.none)
    assert read(root)["Track00001"].beats is None
    assert read(root)["Track00001"].chords
    with pytest.raises(DataError, match="nothing to estimate @ --beats none --chords none"):
        run(root, beats=Beats.none, chords=Chords.none)


def test_songs_in_which_nobody_hears_anything_are_named(tmp_path, listeners, capsys):
    song(tmp_path / "train" / "Track00001", level=0.0)
    song(tmp_path / "train" / "Track00002", seconds=3.0)
    song(tmp_path / "train" / "Track00003")
    listeners["beats"].heard, listeners["chords"].heard = {}, {"chords": [[0.0, 3.0, "H:dur"]]}
    run(tmp_path)
    told = capsys.readouterr().out
    assert f"beats and chords not estimated: it is silent @ {tmp_path}/train/Track00001" in told
    assert f"it lasts 3.0 s, 5 s are needed @ {tmp_path}/train/Track00002" in told
    assert f"no beats were found @ {tmp_path}/train/Track00003" in told
    assert "chords were left out: no chord is called 'H:dur'" in told
    assert "beats of 3 songs: 0 estimated, 0 annotated before, 3 without" in told
    assert set(read(tmp_path).values()) == {NOTHING}


def test_bars_that_cannot_be_are_left_out_and_the_beats_kept(tmp_path, listeners, capsys):
    song(tmp_path / "train" / "Track00001")
    beats = np.arange(0, 6, 0.25).tolist()
    listeners["beats"].heard = {"beats": beats, "downbeats": [0.0, 5.0]}
    run(tmp_path)
    assert "bars were left out: the bar at 0.000 s has 20 beats" in capsys.readouterr().out
    assert read(tmp_path)["Track00001"].beats.times == tuple(beats)
    assert read(tmp_path)["Track00001"].beats.bar == ()


def test_no_corpus_and_no_weights_are_errors(tmp_path, listeners):
    with pytest.raises(DataError, match="no song could be read"):
        run(tmp_path / "nothing")
    with pytest.raises(PluginError, match=r"no Beat This checkpoint at 'x.ckpt' @ --weights"):
        BeatThis("x.ckpt")


def test_madmom_hears_beats_bars_and_chords():
    """Struck chords at 120 a minute, four to a bar, with the first of each bar louder and lower."""
    rate = MadmomBeats.rate
    time = np.arange(10 * rate) / rate
    since, beat = time % 0.5, (time // 0.5).astype(int)
    stroke = np.where(beat % 4 == 0, 2 * np.sin(2 * np.pi * 80 * since), np.sin(2 * np.pi * 1500 * since))
    pitches = np.array([[130.8, 261.6, 329.6, 392.0], [110.0, 220.0, 261.6, 329.6]])[beat // 4 % 2].T
    tones = sum(np.sin(2 * np.pi * n * pitches * time).sum(axis=0) / n for n in (1, 2, 3))
    sound = (0.3 * stroke * np.exp(-since / 0.02) + 0.06 * tones * np.exp(-since / 0.5)).astype(np.float32)
    found = MadmomBeats().hear(sound)
    inner = [beat for beat in found["beats"] if 1 < beat < 9]
    assert len(inner) >= 14
    assert max(abs(beat - round(beat * 2) / 2) for beat in inner) < 0.05
    assert set(found["downbeats"]) <= set(found["beats"])
    chords = MadmomChords().hear(sound)["chords"]
    assert {name for _, _, name in chords} == {"C:maj", "A:min"}
    noise = 0.1 * np.random.default_rng(0).standard_normal(6 * rate).astype(np.float32)
    assert MadmomBeats().hear(noise) == {}
    assert MadmomChords().hear(noise) == {}
