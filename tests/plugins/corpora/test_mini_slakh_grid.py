"""Beats and bars of MIDI files, against pretty_midi's."""

import io

import mido
import numpy as np
import pretty_midi
import pytest
from midi_files import RESOLUTION, band, midi_file, note, program, tempo

from accomp.plugins.corpora.mini_slakh.grid import beats_and_downbeats
from accomp.plugins.corpora.mini_slakh.midi import read


def meter(tick, numerator, denominator):
    return [(tick, mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator))]


def song(*conductor, beats=32):
    notes = program(0)
    for beat in range(beats):
        notes += note(beat * RESOLUTION, 60 + beat % 7, length=RESOLUTION)
    return midi_file([event for part in conductor for event in part], notes)


@pytest.mark.parametrize(
    "data",
    [
        song(tempo(0, 500_000)),
        song(tempo(0, 400_000), meter(0, 3, 4)),
        song(tempo(0, 400_000), tempo(7 * RESOLUTION + 100, 600_000), tempo(20 * RESOLUTION, 300_000)),
        song(tempo(0, 500_000), meter(0, 3, 4), meter(12 * RESOLUTION, 4, 4)),
        song(tempo(0, 500_000), meter(0, 2, 4), meter(8 * RESOLUTION, 5, 4), tempo(9 * RESOLUTION, 450_000)),
    ],
)
def test_beats_and_downbeats_are_those_of_pretty_midi(data):
    found = read(data, longest=600)
    theirs = pretty_midi.PrettyMIDI(io.BytesIO(data))
    end = min(theirs.get_end_time(), found.seconds) - 0.01
    for own, other in ((found.beats, theirs.get_beats()), (found.downbeats, theirs.get_downbeats())):
        own, other = (np.array([time for time in times if time < end]) for times in (own, other))
        np.testing.assert_allclose(own, other, atol=1e-4)


def test_a_bar_of_seven_eighths_has_seven_beats_and_one_of_six_eighths_three():
    for numerator, each, count in ((7, 0.25, 7), (6, 0.5, 3)):
        beats, downs = beats_and_downbeats([(0, 500_000)], [(0, numerator, 8)], 480, 480 * 21)
        assert np.diff(beats) == pytest.approx(each)
        assert np.diff(downs) == pytest.approx(each * count)


def test_beats_are_told_in_the_time_of_the_song():
    """A song that begins after three beats of silence, in the last quarter of a bar."""
    found = read(band(16, pause=3, bpm=100), longest=600)
    assert found.beats[:3] == pytest.approx((0.0, 0.6, 1.2))
    assert found.downbeats[:2] == pytest.approx((0.6, 3.0))
    faster = read(band(16, pause=3, bpm=100), longest=600, tempo=1.25)
    assert faster.beats[:3] == pytest.approx((0.0, 0.48, 0.96), abs=1e-5)


def test_a_stretch_from_the_middle_keeps_its_bars():
    found = read(band(200, bpm=120), longest=20)
    assert found.beats[0] == 0
    assert found.downbeats[0] == 0
    assert np.diff(found.downbeats) == pytest.approx(2.0)
    assert found.beats[-1] < found.seconds
