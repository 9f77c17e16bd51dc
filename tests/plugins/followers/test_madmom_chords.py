"""Chords as they are heard: the right ones, on time, and none where none sounds."""

from __future__ import annotations

import numpy as np
import pytest

from accomp.core.music.annotations import NOTHING
from accomp.core.testing import check_plugin
from accomp.plugins.followers.madmom_chords import FRAMES, WINDOW, MadmomChords, _Chroma
from accomp.plugins.followers.resampling import RATE
from accomp.plugins.libraries.madmom_import import madmom_importable

pytestmark = pytest.mark.filterwarnings("ignore:Passing more than 2 positional arguments:DeprecationWarning")

SR = 32000
NOTES = {"C:maj": (48, 60, 64, 67), "A:min": (45, 57, 60, 64), "F:maj": (41, 57, 60, 65), "G:maj": (43, 55, 59, 62)}


def organ(chords: list[str], each: float, rate: int = SR) -> np.ndarray:
    """Chords of `each` s, of five partials a note."""
    time, sound = np.arange(round(each * rate)) / rate, []
    for chord in chords:
        pitches = [440 * 2 ** ((note - 69) / 12) for note in NOTES[chord]]
        sound.append(sum(np.sin(2 * np.pi * f * h * time) / h for f in pitches for h in range(1, 6)) * 0.05)
    return np.concatenate(sound).astype(np.float32)


def test_chords_are_heard_when_they_sound_a_second_later():
    follower = MadmomChords(MadmomChords.Config(), SR)
    follower.push(organ(list(NOTES), 3.0))
    spans = follower.known().chords
    assert [span.chord for span in spans] == list(NOTES)
    np.testing.assert_allclose([span.start for span in spans], [0, 3, 6, 9], atol=0.35)
    assert 10.8 < spans[-1].end < 11.2


@pytest.mark.parametrize("what", ["silence", "noise"])
def test_where_no_chord_sounds_none_is_told(what):
    n = 6 * SR
    sound = np.zeros(n) if what == "silence" else 0.1 * np.random.default_rng(0).standard_normal(n)
    follower = MadmomChords(MadmomChords.Config(), SR)
    follower.push(sound.astype(np.float32))
    assert follower.known() == NOTHING


def test_the_chroma_is_that_of_the_library_frame_by_frame():
    with madmom_importable():
        from madmom.audio.chroma import DeepChromaProcessor
        from madmom.audio.signal import Signal
    sound = organ(["A:min", "F:maj"], 2.0, RATE)
    whole = DeepChromaProcessor()(Signal(sound, sample_rate=RATE))
    chroma, padded = _Chroma(), np.concatenate([np.zeros(WINDOW // 2, np.float32), sound])
    chroma.begin()
    hop = RATE // FRAMES
    rows = [chroma.of(padded[i : i + WINDOW]) for i in range(0, len(padded) - WINDOW + 1, hop)]
    found = np.stack([row for row in rows if row is not None])
    assert len(found) == len(rows) - 7
    np.testing.assert_allclose(found, whole[: len(found)], atol=1e-5)


def test_what_is_long_gone_is_not_kept():
    follower = MadmomChords(MadmomChords.Config(history=10.0), SR)
    for number in range(5000):
        follower._hear(("C:maj", "F:maj")[number // 20 % 2])
    assert len(follower._changes) < 10
    assert follower.known().chords[0].start > 480


def test_it_keeps_the_promises_of_its_kind():
    assert len(check_plugin("follower", "madmom_chords")) >= 7
