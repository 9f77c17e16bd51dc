"""What madmom and basic-pitch hear in a short piece whose notes are known, and that each hears a sound once."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest

from accomp.core.evaluation.cache import Cache
from accomp.plugins.metrics.mirdd import extractors as mirdd_extractors
from accomp.plugins.metrics.mirdd.extractors import CHORDS, EXTRACTORS, RATE, Ears

if missing := [
    name for name in ("madmom", "onnxruntime", "basic_pitch", "librosa") if not importlib.util.find_spec(name)
]:
    pytest.skip(f"{', '.join(missing)} not installed", allow_module_level=True)

BEAT = 0.5
TRIADS = {"G:maj": (55, 59, 62), "E:min": (52, 55, 59), "C:maj": (48, 52, 55), "D:maj": (50, 54, 57)}


def piece() -> np.ndarray:
    """Four bars of four beats, a triad each, in G major; a drum on every beat, louder on the first: 8 s."""
    time = np.arange(16 * round(BEAT * RATE)) / RATE
    audio = np.zeros_like(time)
    for bar, triad in enumerate(TRIADS.values()):
        since = time - 4 * BEAT * bar
        envelope = (
            ((since >= 0) & (since < 4 * BEAT)) * np.minimum(1, np.maximum(since, 0) / 0.01) * np.exp(-since.clip(0))
        )
        for pitch in (*triad, triad[0] + 12):
            frequency = 440 * 2 ** ((pitch - 69) / 12)
            audio += 0.05 * envelope * sum(np.sin(2 * np.pi * k * frequency * time) / k for k in (1, 2, 3, 4))
    hit = np.random.default_rng(0).standard_normal(3000) * np.exp(-np.arange(3000) / 400)
    for beat in range(16):
        audio[round(beat * BEAT * RATE) :][:3000] += (0.12 if beat % 4 else 0.35) * hit
    return audio.astype(np.float32)


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    return piece()


@pytest.fixture(scope="module")
def ears() -> Ears:
    return Ears()


def test_the_key(ears: Ears, music: np.ndarray) -> None:
    (key,) = ears.hear("key", music[: 6 * RATE])
    assert CHORDS[int(key)] == "G:maj"


def test_the_chords(ears: Ears, music: np.ndarray) -> None:
    chords = ears.hear("chords", music)
    heard = [CHORDS[int(number)] for begin, end, number in chords if number >= 0 and end - begin > 1]
    assert heard == list(TRIADS)
    np.testing.assert_allclose(chords[:, 0], [0, 2, 4, 6], atol=0.35)


def test_the_bars(ears: Ears, music: np.ndarray) -> None:
    bars = ears.hear("bars", music[: 5 * RATE])
    assert bars.shape[1] == 2
    near = np.abs(bars[:, 0] / BEAT - np.round(bars[:, 0] / BEAT)) * BEAT
    assert np.median(near) < 0.05
    assert len(bars) == pytest.approx(10, abs=1)
    assert set(np.diff(bars[:, 1])) <= {1.0, 1 - bars[:, 1].max()}


def test_the_percussive_onsets(ears: Ears, music: np.ndarray) -> None:
    onsets = ears.hear("onsets", music[: 3 * RATE])
    beats = np.arange(1, 6) * BEAT
    found = [np.abs(onsets - beat).min() < 0.05 for beat in beats]
    assert all(found)
    assert len(onsets) <= 7


def test_the_notes(ears: Ears, music: np.ndarray) -> None:
    notes = ears.hear("notes", music)
    assert (notes[:, 1] > notes[:, 0]).all()
    for bar, triad in enumerate(TRIADS.values()):
        within = (notes[:, 0] > 2 * bar - 0.2) & (notes[:, 0] < 2 * bar + 0.3)
        assert set(triad) <= set(notes[within, 2].astype(int))


def test_windows_leave_no_seam(ears: Ears) -> None:
    """One long note is one note, although the network hears windows of two seconds."""
    time = np.arange(6 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * time) * ((time > 0.5) & (time < 5.5))).astype(np.float32)
    ((begin, end, pitch, _),) = [row for row in ears.hear("notes", tone) if row[2] == 69]
    assert pitch == 69
    assert begin == pytest.approx(0.5, abs=0.05)
    assert end == pytest.approx(5.5, abs=0.15)


def test_importing_basic_pitch_leaves_the_logging_alone(ears: Ears, music: np.ndarray) -> None:
    ears.hear("notes", music)
    assert logging.root.manager.disable == logging.NOTSET
    assert not any(type(handler) is logging.StreamHandler for handler in logging.root.handlers)


@pytest.mark.parametrize("what", list(EXTRACTORS))
def test_a_sound_is_heard_once_for_all_runs(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = EXTRACTORS[what][1]
    monkeypatch.setitem(EXTRACTORS, what, (lambda: lambda sound: calls.append(what) or np.ones(3), real))
    sound = np.ones(100, dtype=np.float32)
    for _ in range(2):
        again = Ears().within(Cache(tmp_path))
        np.testing.assert_array_equal(again.hear(what, sound), np.ones(3))
    assert calls == [what]
    monkeypatch.setattr(mirdd_extractors, "madmom_version", lambda: "9.9")
    monkeypatch.setattr(mirdd_extractors.importlib.metadata, "version", lambda name: "9.9")
    Ears().within(Cache(tmp_path)).hear(what, sound)
    assert len(calls) == 2
