"""Tempo and beats of a MIDI clock."""

from __future__ import annotations

import pytest
from midi_ports import ticks

from accomp.core.realtime.midi_clock import GAP, MidiClock


def played(clock: MidiClock, bpm: float, beats: float, begin: float = 0.0, **more) -> MidiClock:
    for time in ticks(bpm, beats, begin, **more):
        clock.receive("clock", time)
    return clock


@pytest.mark.parametrize("bpm", [40, 93.7, 120, 240])
@pytest.mark.parametrize("seed", range(5))
def test_jittered_ticks_give_the_tempo_and_the_beat(bpm, seed):
    clock = played(MidiClock(), bpm, 12.1, jitter=0.006, seed=seed)
    assert clock.pulse is not None
    assert clock.pulse.bpm == pytest.approx(bpm, rel=0.005)
    assert clock.pulse.beat == 12
    assert clock.pulse.time == pytest.approx(12 * 60 / bpm + 0.003, abs=0.002)  # 3 ms: the mean of what ticks are late


def test_a_beat_of_ticks_is_needed():
    clock = played(MidiClock(), 120, 1)
    assert clock.pulse is None
    clock.receive("clock", 0.5)
    assert clock.pulse is not None
    assert (clock.pulse.bpm, clock.pulse.time, clock.pulse.beat) == (pytest.approx(120), pytest.approx(0.5), 1)


@pytest.mark.parametrize(("before", "after"), [(120, 132), (120, 90), (120, 123), (100, 103)])
@pytest.mark.parametrize("at", [8, 8.4])
def test_a_change_of_tempo_is_followed_within_two_beats(before, after, at):
    clock = played(MidiClock(), before, at, jitter=0.002)
    changed = at * 60 / before
    whole = 9 - at if at % 1 else 0  # beats of the old count are not those of the new tempo's begin
    played(clock, after, 2 + whole + 0.1, begin=changed, jitter=0.002)
    assert clock.pulse is not None
    assert clock.pulse.bpm == pytest.approx(after, rel=0.006)


@pytest.mark.parametrize("stall", [0.03, 0.1, 0.2])
@pytest.mark.parametrize("at", range(4 * 24, 5 * 24, 5))
def test_a_stall_is_no_change_of_tempo(stall, at):
    """Ticks that are held up come at once, and those after them in time."""
    clock, times = MidiClock(), list(ticks(120, 10.1, jitter=0.002))
    held = times[at] + stall
    for number, time in enumerate(times):
        clock.receive("clock", max(time, held) if number >= at else time)
        if clock.pulse is not None:
            assert clock.pulse.bpm == pytest.approx(120, rel=0.03)
    assert clock.pulse.bpm == pytest.approx(120, rel=0.005)


def test_a_start_sets_the_downbeat_and_a_stop_withholds():
    clock = played(MidiClock(), 120, 5.5)
    clock.receive("start", 2.8)
    assert clock.pulse is None  # the old grid does not hold
    played(clock, 120, 2.1, begin=2.81)
    assert clock.pulse is not None
    assert (clock.pulse.beat, clock.pulse.time) == (2, pytest.approx(3.81))
    clock.receive("stop", 3.9)
    assert clock.pulse is None
    played(clock, 120, 4, begin=3.95)  # many send ticks while they are stopped
    assert clock.pulse is None
    clock.receive("continue", 6)
    played(clock, 120, 25 / 24, begin=6.01)  # from tick 50 on
    assert clock.pulse is not None
    assert (clock.pulse.beat, clock.pulse.time) == (3, pytest.approx(6.01 + 22 / 48))


def test_a_song_position_is_where_a_continued_song_goes_on():
    clock = MidiClock()
    clock.receive("stop", 0)
    clock.receive("songpos", 0, 4 * 16 + 2)  # bar 5, half a beat late
    clock.receive("continue", 1)
    played(clock, 100, 2.1, begin=1)
    assert clock.pulse is not None
    assert (clock.pulse.beat, clock.pulse.time) == (18, pytest.approx(1 + 1.5 * 0.6))
    clock.receive("start", 3)  # begins the song again
    played(clock, 100, 1.1, begin=3)
    assert clock.pulse.beat == 1


def test_after_a_gap_the_tempo_is_measured_anew():
    clock = played(MidiClock(), 120, 4)
    played(clock, 120, 1, begin=2.01 + GAP)
    assert clock.pulse is not None
    assert (clock.pulse.bpm, clock.pulse.beat) == (pytest.approx(120), 3)  # until one beat of ticks is there
    clock.receive("clock", 2.51 + GAP)
    assert (clock.pulse.bpm, clock.pulse.beat, clock.pulse.time) == (pytest.approx(120), 5, pytest.approx(2.51 + GAP))


def test_ticks_that_come_at_once_or_too_slowly_give_no_beat():
    clock = MidiClock()
    for time in [0.0] * 60:
        clock.receive("clock", time)
    assert clock.pulse is None
    assert played(MidiClock(), 15, 3).pulse is None
    assert played(MidiClock(), 500, 3).pulse is None


def test_other_messages_are_ignored():
    clock = played(MidiClock(), 120, 1.1)
    clock.receive("note_on", 1)
    clock.receive("reset", 1)
    assert clock.pulse is not None
