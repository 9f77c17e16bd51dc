"""`accomp jam --device --midi-clock`: a MIDI clock of the server's machine sets the metronome of a session."""

from __future__ import annotations

import json

import mido
import numpy as np
import pytest
from midi_ports import Ports, ticks
from serving_small import TOKEN, Client, small_player
from test_serving_doors import fetch
from turned_device import BLOCK, RATE, Turned, audio_at, noise

from accomp.core.errors import DataError, UserError
from accomp.core.realtime import midi_input
from accomp.core.realtime.midi_input import SILENT, MidiInput
from accomp.core.registry import Registry
from accomp.core.serving import launch
from accomp.core.serving.launch import ServeOptions, jam
from accomp.core.serving.machine.audio import MachineAudio
from accomp.core.serving.machine.clock import MachineClock
from accomp.core.serving.machine.place_times import PlaceTimes
from accomp.core.serving.playing.session_timelines import SessionTimelines, Unplayable
from accomp.core.serving.protocol.message_parsing import BadMessage, message_of
from accomp.core.serving.protocol.messages import FollowClock, SetMetronome, Tempo


def test_times_are_places_without_the_jitter_of_callbacks():
    times, rng = PlaceTimes(48000), np.random.default_rng(0)
    assert times.place_at(3.0) == 0
    for number in range(300):
        times.note(480 * number, 7 + number * 0.01 * (1 + 5e-5) + rng.exponential(0.003))
    late = times.place_at(7 + 299 * 0.01 * (1 + 5e-5)) - 480 * 299
    assert abs(late) < 0.0005 * 48000


def test_a_beat_belongs_to_what_sounds_at_its_time():
    """Output that is put down at a beat sounds `latency_out` later, with input that is heard `first` after it was."""
    device, time = Turned(first=640), [0.0]
    device.latency_out = 0.015
    audio = MachineAudio(device, name="Loft", rate=RATE, block=BLOCK, now=lambda: time[0])
    for number in range(100):
        time[0] = 5 + 0.01 * number
        device.turn(noise(BLOCK))
    assert audio.place_at(5.5) == pytest.approx(50 * BLOCK + 640 - 0.015 * RATE)
    ports = Ports("DAW")
    midi = MidiInput("DAW", ports, now=lambda: time[0])
    clock = MachineClock(midi, audio)
    assert clock.state() == {"port": "DAW", "bpm": None, "place": None, "said": ""}
    ports.send(mido.Message("start"))
    for time[0] in ticks(120, 5.1, begin=5.2):
        ports.send(mido.Message("clock"))
    begin = round(audio.place_at(5.2))
    tempo = clock.tempo(3)
    assert tempo is not None
    assert (tempo.bpm, tempo.beats_per_bar, tempo.place) == (pytest.approx(120), 3, pytest.approx(begin, abs=1))
    assert clock.state()["bpm"] == 120
    time[0] += SILENT + 0.01  # the sender has ended without a word
    assert clock.tempo(3) is None
    ports.names = []
    midi.look()
    assert "has vanished" in clock.state()["said"]


class Set:
    """A clock that a test sets."""

    value: Tempo | None = None

    def tempo(self, beats_per_bar: int) -> Tempo | None:
        return self.value


def timelines(clock: Set | None) -> SessionTimelines:
    player = small_player(timelines=("metronome", "chart"))
    return SessionTimelines(player, Registry(third_party=False), RATE, clock=clock)


def beats_of(lines: SessionTimelines, kind: str = "metronome"):
    """Values of 50 frames, the first at place 0."""
    source = lines.sources([kind], lambda frame: 640 * frame, {})[kind]
    return None if source is None else source(0, 50)


def test_the_model_is_given_the_clocks_beats_as_those_of_a_set_tempo():
    clock = Set()
    lines = timelines(clock)
    assert lines.set_metronome(FollowClock(4), 0) == ("metronome",)
    assert beats_of(lines) is None  # no clock as yet
    clock.value = Tempo(125, 4, -5000)
    assert lines.follow_clock(100) == ("metronome",)
    typed = timelines(None)
    typed.set_metronome(Tempo(125, 4, -5000), 0)
    assert np.array_equal(beats_of(lines), beats_of(typed))
    clock.value = Tempo(125.01, 4, -5010)  # within jitter
    assert lines.follow_clock(5000) == ()
    for moved in (Tempo(125, 4, -4800), Tempo(126, 4, -5000), Tempo(125, 4, -5000 + 15360), Tempo(125, 3, -5000)):
        lines.tempo, clock.value = Tempo(125, 4, -5000), moved
        assert lines.follow_clock(5000) == ("metronome",), moved
        assert lines.tempo == moved
    clock.value = None  # stopped
    assert lines.follow_clock(6000) == ("metronome",)
    assert beats_of(lines) is None
    assert lines.follow_clock(6000) == ()
    lines.set_metronome(Tempo(100, 4, 0), 6000)
    clock.value = Tempo(90, 4, 0)
    assert lines.follow_clock(7000) == ()  # a set tempo is kept


def test_a_typed_chart_begins_with_the_clocks_song_and_is_withheld_while_it_is_stopped():
    clock = Set()
    lines = timelines(clock)
    lines.set_metronome(FollowClock(4), 0)
    lines.set_chart("C | F | G | Am", None, 0)
    assert beats_of(lines, "chart") is None
    clock.value = Tempo(240, 4, -2 * RATE)  # bars of a second: G is at place 0
    assert lines.follow_clock(0) == ("metronome", "chart")
    typed = timelines(None)
    typed.set_metronome(Tempo(240, 4, 0), 0)
    typed.set_chart("G | Am | C | F", 0, 0)
    assert np.array_equal(beats_of(lines, "chart"), beats_of(typed, "chart"))
    assert lines.now(RATE // 2, {}) == (240, "G")
    clock.value = None
    assert lines.follow_clock(100) == ("metronome", "chart")
    assert beats_of(lines, "chart") is None


def test_without_a_clock_the_page_is_told_how_to_get_one():
    with pytest.raises(Unplayable, match="no MIDI clock reaches this server; accomp jam --device DEVICE --midi-clock"):
        timelines(None).set_metronome(FollowClock(4), 0)


def test_the_pages_words_for_the_clock():
    said = message_of('{"type": "metronome", "value": {"clock": true, "beats_per_bar": 3}}')
    assert said == SetMetronome(FollowClock(3))
    assert message_of('{"type": "metronome", "value": {"bpm": 90, "place": -5}}') == SetMetronome(Tempo(90, 4, -5))
    with pytest.raises(BadMessage, match=r'expected "off", "follow", \{"bpm", .*\} or \{"clock": true'):
        message_of('{"type": "metronome", "value": "clock"}')


def test_the_option_belongs_to_a_device():
    with pytest.raises(UserError, match=r"--midi-clock belongs to --device; .* @ --midi-clock DAW"):
        jam(ServeOptions(["small"], midi_clock="DAW"), Registry(third_party=False))


def test_the_command_opens_the_port_that_it_is_given_and_says_which(monkeypatch, capsys):
    monkeypatch.setattr(midi_input, "load_midi", lambda: Ports("Through", "DAW:clock"))
    clock = launch._open_clock("daw", audio_at(Turned()))
    assert clock.port == "DAW:clock"
    assert "MIDI clock: DAW:clock" in capsys.readouterr().out
    with pytest.raises(DataError, match="'Through', 'DAW:clock'"):
        launch._open_clock("Logic", audio_at(Turned()))


def test_a_session_follows_the_clock_through_the_device(clocked, monkeypatch):
    running, ports = clocked
    assert json.loads(fetch(running, "/v1/models", TOKEN)[2])["device"]["clock"] == "DAW"
    with Client(running, frame=320) as client:
        client.hello()
        slots, given = running.server.runs["small"].slots, []
        inner = slots.set_timeline
        monkeypatch.setattr(slots, "set_timeline", lambda *set: (given.append(set), inner(*set))[1])
        client.say(type="start", seed=3, first_ms=10, record=True, metronome={"clock": True, "beats_per_bar": 4})
        client.next("playing")
        for _ in range(60):
            state = client.next("state")
            if state["bpm"]:
                break
        (session,) = running.server.sessions.values()
        tempo = session.live.timelines.tempo
        assert tempo.bpm == pytest.approx(100)
        assert state["clock"]["port"] == "DAW"
        assert state["clock"]["bpm"] == 100
        assert tempo.place == pytest.approx(running.server.device.place_at(1.0), abs=2)
        ports.send(mido.Message("stop"))
        for _ in range(60):
            state = client.next("state")
            if state["bpm"] is None:
                break
        assert (state["bpm"], state["clock"]["bpm"]) == (None, None)
        assert {name for _, name, _ in given} == {"metronome"}
        assert [source is not None for _, _, source in given][-2:] == [True, False]
        client.say(type="stop")
        files = {file["name"] for file in client.next("ended")["files"]}
    assert "manifest.json" in files
    (manifest,) = running.server.recorder.folder.glob("*/manifest.json")
    changes = json.loads(manifest.read_text())["changes"]
    assert [change["what"] for change in changes] == ["clock"] * len(changes)
    assert changes[-1]["to"] == "off"
    assert "bpm=" in changes[0]["to"]
