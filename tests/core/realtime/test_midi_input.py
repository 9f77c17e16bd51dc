"""MIDI inputs of this machine: found by a name, said where they are not there, and again when they come back."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import mido
import pytest
from midi_ports import Ports, ticks

from accomp.core.errors import DataError, PluginError
from accomp.core.realtime import midi_input
from accomp.core.realtime.midi_input import MidiInput, input_names, load_midi

DAW = "Bitwig:Clock 128:0"


def test_a_port_is_found_by_a_part_of_its_name_and_its_messages_move_the_clock():
    ports, time = Ports("Through:0 14:0", DAW), [0.0]
    midi = MidiInput("bitwig", ports, now=lambda: time[0])
    assert midi.name == DAW
    assert list(ports.open) == [DAW]
    ports.send(mido.Message("songpos", pos=16))
    ports.send(mido.Message("continue"))
    for time[0] in ticks(90, 1.1):
        ports.send(mido.Message("clock"))
        ports.send(mido.Message("note_on"))
    assert midi.clock.pulse is not None
    assert (midi.clock.pulse.bpm, midi.clock.pulse.beat) == (pytest.approx(90), 5)
    midi.close()
    assert not ports.open


def test_a_port_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(DataError, match=r"no such MIDI input; the inputs of this machine: 'A 1', 'B 2' .* @ --midi-c"):
        MidiInput("C", Ports("A 1", "B 2"))
    with pytest.raises(DataError, match="machine: none"):
        MidiInput("C", Ports())
    with pytest.raises(DataError, match="2 MIDI inputs fit; name one of them: 'Keys 1', 'Keys 2' @ --midi-clock keys"):
        MidiInput("keys", Ports("Keys 1", "Keys 2", "Pads"))
    assert MidiInput("Keys 1", Ports("Keys 1", "Keys 12")).name == "Keys 1"


def test_a_port_that_another_program_holds_and_a_machine_without_midi_are_told():
    class Held(Ports):
        def open_input(self, name, *, callback):
            raise OSError("device busy")

    class Without(Ports):
        def get_input_names(self):
            raise RuntimeError("error creating ALSA sequencer client object")

    with pytest.raises(DataError, match="'A' cannot be opened: device busy"):
        MidiInput("A", Held("A"))
    with pytest.raises(DataError, match=r"MIDI cannot be used on this machine: error creating ALSA .*modprobe snd-seq"):
        input_names(Without())


@pytest.mark.parametrize("missing", ["mido", "rtmidi"])
def test_a_missing_library_is_told_with_the_extra_that_brings_it(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "mido.backends.rtmidi", raising=False)
    monkeypatch.delenv("MIDO_BACKEND", raising=False)
    with pytest.raises(PluginError, match=r"pip install 'accomp\[live\]'"):
        load_midi()


def test_a_missing_library_of_the_system_is_told(monkeypatch, tmp_path):
    (tmp_path / "rtmidi.py").write_text("raise ImportError('libasound.so.2: cannot open shared object file')")
    for module in ("rtmidi", "mido.backends.rtmidi"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delenv("MIDO_BACKEND", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"libasound.so.2: cannot open .*apt-get install libasound2"):
        load_midi()


def test_a_port_that_vanishes_is_said_and_its_beat_withheld_until_it_is_back(capsys):
    ports = Ports(DAW)
    midi = MidiInput("Bitwig", ports, now=iter(ticks(120, 9)).__next__)
    for _ in range(30):
        ports.send(mido.Message("clock"))
    midi.look()
    assert midi.clock.pulse is not None
    assert not midi.problem
    ports.names = ["Through"]
    midi.look()
    midi.look()
    assert midi.gone
    assert midi.clock.pulse is None
    assert not ports.open
    said = "the MIDI input 'Bitwig:Clock 128:0' has vanished; the beat is withheld until it is back"
    assert midi.problem == said
    assert capsys.readouterr().err.count("has vanished") == 1
    ports.names = ["Through", "Bitwig:Clock 130:0"]  # ALSA counts on
    midi.look()
    assert (midi.name, midi.gone, midi.problem) == ("Bitwig:Clock 130:0", False, "")
    for _ in range(30):
        ports.send(mido.Message("clock"))
    assert midi.clock.pulse is not None


class Client:
    """rtmidi's input: counted, since each is a client of the sound server."""

    made = 0

    def __init__(self, rtapi):
        Client.made += 1
        self.ports = ["A", f"api {rtapi}"]

    def get_ports(self):
        return self.ports


def test_ports_are_listed_by_one_client_of_the_chosen_interface(monkeypatch):
    """At JACK every new client interrupts the others."""
    rtmidi = SimpleNamespace(API_UNSPECIFIED=0, API_UNIX_JACK=3, MidiIn=Client)
    monkeypatch.setitem(sys.modules, "rtmidi", rtmidi)
    monkeypatch.delitem(sys.modules, "mido.backends.rtmidi", raising=False)
    monkeypatch.setenv("MIDO_BACKEND", "mido.backends.rtmidi/UNIX_JACK")
    backend, before = load_midi(), Client.made
    for _ in range(3):
        assert backend.get_input_names() == ["A", "api 3"]
    assert Client.made == before + 1
    monkeypatch.setenv("MIDO_BACKEND", "mido.backends.rtmidi_utils")  # any other module
    assert isinstance(load_midi(), mido.Backend)


def test_a_port_is_watched_until_it_is_closed(monkeypatch):
    midi, looks = MidiInput(DAW, Ports(DAW)), []
    monkeypatch.setattr(midi, "look", lambda: looks.append(1) or (len(looks) == 3 and midi.close()))
    monkeypatch.setattr(midi_input, "INTERVAL", 0.0)
    midi._watch()
    assert len(looks) == 3


def test_a_port_that_opens_again_at_once_under_another_address_is_opened_there():
    ports = Ports(DAW)
    midi = MidiInput("Bitwig", ports)
    ports.names = ["Bitwig:Clock 131:0"]
    midi.look()
    assert list(ports.open) == ["Bitwig:Clock 131:0"]
    assert not midi.gone
