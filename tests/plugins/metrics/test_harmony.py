"""harmony: chroma of known chords, transposition against silence about pitch, and what is not judged."""

from __future__ import annotations

import numpy as np
import pytest

from accomp.core.errors import EmptyClip
from accomp.core.music.instruments import CLASSES
from accomp.core.types import Take
from accomp.plugins.metrics.chroma import RATE, chroma
from accomp.plugins.metrics.harmony import Harmony, correlation

PIANO, BASS = CLASSES.index("Piano"), CLASSES.index("Bass")


def tones(pitches: list[list[int]], seconds: float = 1.0, shift: int = 0) -> np.ndarray:
    """Chord after chord of MIDI pitches, four partials each."""
    time = np.arange(round(seconds * RATE)) / RATE
    chords = []
    for chord in pitches:
        hertz = [440 * 2 ** ((pitch + shift - 69) / 12) for pitch in chord]
        chords.append(sum(np.sin(2 * np.pi * h * f * time) / h for f in hertz for h in (1, 2, 3, 4)))
    return (0.1 * np.concatenate(chords)).astype(np.float32)


CHORDS = [[60, 64, 67], [57, 60, 64], [53, 57, 60], [55, 59, 62]]
ROOTS = [[36], [45], [41], [43]]


def take(id: str, context: np.ndarray, stem: np.ndarray, instrument: int = BASS) -> Take:
    return Take(id=id, context=context, stem=stem, sample_rate=RATE, instrument=instrument)


@pytest.mark.parametrize("chord", CHORDS)
def test_the_loudest_pitch_classes_are_those_that_are_played(chord):
    classes, power = chroma(tones([chord], 3.0))
    middle = classes[8:-8]
    assert classes.shape == (len(power), 12)
    assert (np.sort(np.argsort(middle, axis=1)[:, -3:], axis=1) == sorted(p % 12 for p in chord)).all()


def test_an_octave_is_the_same_and_a_semitone_turns_it():
    low, high, up = (chroma(tones([[48, 52, 55]], 2.0, shift))[0][6:-6].mean(0) for shift in (0, 12, 1))
    assert np.corrcoef(low, high)[0, 1] > 0.9
    assert np.corrcoef(np.roll(low, 1), up)[0, 1] > 0.95


def test_strokes_of_noise_hide_a_chord_less_than_they_sound():
    rng, chord = np.random.default_rng(0), tones([CHORDS[0]] * 4)
    strokes = np.zeros_like(chord)
    for at in range(0, len(chord) - 2000, RATE // 4):
        strokes[at : at + 2000] += rng.standard_normal(2000) * np.exp(-np.arange(2000) / 300)
    clean, noisy = chroma(chord)[0][5:-5], chroma(chord + 0.3 * strokes)[0][5:-5]
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(clean, noisy, strict=True)]) > 0.8


def test_a_bass_on_the_roots_agrees_and_one_in_another_key_does_not():
    metric, context = Harmony(Harmony.Config()), tones(CHORDS)
    metric.update(take("same", context, tones(ROOTS)))
    for shift in (1, 3, 6, 10):
        metric.update(take(f"{shift}", context, tones(ROOTS, shift=shift)))
    values = {id: one["harmony"] for id, one in metric.per_take().items()}
    assert values["same"] > 0.3
    assert max(value for id, value in values.items() if id != "same") < values["same"] - 0.3
    assert metric.result(["same"])["harmony"] == values["same"]
    assert metric.result()["harmony"] == pytest.approx(np.mean(list(values.values())))
    assert metric.per_take()["same"]["compared"] == pytest.approx(4.0, abs=0.3)


def test_only_frames_in_which_both_sound_count():
    half = np.concatenate([tones(CHORDS[:2]), np.zeros(2 * RATE, np.float32)])
    other = np.concatenate([tones(ROOTS[:2]), tones(ROOTS[2:], shift=6)])
    metric = Harmony(Harmony.Config())
    metric.update(take("half", half, other))
    metric.update(take("whole", half[: 2 * RATE], other[: 2 * RATE]))
    each = metric.per_take()
    assert each["half"]["harmony"] == pytest.approx(each["whole"]["harmony"], abs=0.1)


def test_levels_do_not_count():
    context, stem = tones(CHORDS), tones(ROOTS)
    metric = Harmony(Harmony.Config())
    metric.update(take("loud", context, stem))
    metric.update(take("soft", 0.2 * context, 3 * stem))
    each = metric.per_take()
    assert each["loud"]["harmony"] == pytest.approx(each["soft"]["harmony"], abs=1e-3)


def test_correlation_is_that_of_numpy():
    rng = np.random.default_rng(1)
    a, b = (np.column_stack([np.tile(rng.random(12), (9, 1)), np.ones(9)]) for _ in range(2))
    assert correlation(a, b)[4] == pytest.approx(np.corrcoef(a[4, :12], b[4, :12])[0, 1])


def test_what_has_no_harmony_is_not_judged_and_mistakes_are_named():
    metric, chord = Harmony(Harmony.Config()), tones(CHORDS)
    with pytest.raises(EmptyClip, match="Percussive plays no harmony"):
        metric.update(take("drums", chord, chord, CLASSES.index("Percussive")))
    with pytest.raises(EmptyClip, match="the stem is silent"):
        metric.update(take("mute", chord, np.zeros_like(chord)))
    pause = np.zeros(2 * RATE, np.float32)
    early, late = np.concatenate([tones(CHORDS[:2], 0.8), pause]), np.concatenate([pause, tones(ROOTS[:2], 0.8)])
    with pytest.raises(EmptyClip, match=r"together for 0\.\d s; expected 0\.5 s or more"):
        metric.update(take("apart", early, late))
    with pytest.raises(ValueError, match="harmony was given no take"):
        metric.result()
    metric.update(take("one", chord, chord, PIANO))
    assert metric.result()["harmony"] == pytest.approx(1.0)
    for wrong, told in (
        (take("one", chord, chord), "given twice"),
        (Take("rate", chord, chord, 8000, BASS), "has 8000 Hz; expected 16000 Hz"),
        (take("short", chord[:100], chord[:100]), "expected a second or more"),
        (take("nan", chord, chord * np.nan), "the stem holds NaN or Inf"),
    ):
        with pytest.raises(ValueError, match=told):
            metric.update(wrong)
