"""A MIDI clock of the server's machine, in the places of its sound device."""

from __future__ import annotations

from typing import Any

from accomp.core.realtime.midi_input import MidiInput
from accomp.core.serving.machine.audio import MachineAudio
from accomp.core.serving.protocol.messages import Tempo


class MachineClock:
    """The tempo of a MIDI input, for sessions that play through a device; both by the same clock."""

    def __init__(self, midi: MidiInput, audio: MachineAudio):
        self._midi, self._audio = midi, audio

    @property
    def port(self) -> str:
        """Name of the MIDI input."""
        return self._midi.name

    def tempo(self, beats_per_bar: int) -> Tempo | None:
        """The tempo at present, its place that of the song's first beat by this tempo, so that it may be below 0; None
        while the clock is stopped or silent, or its port is not there.
        """
        pulse = self._midi.clock.pulse
        if pulse is None or self._midi.silent:
            return None
        begin = self._audio.place_at(pulse.time) - pulse.beat * pulse.length * self._audio.rate
        return Tempo(pulse.bpm, beats_per_bar, round(begin))

    def state(self) -> dict[str, Any]:
        """State for a page: port, tempo and place of the song's first beat, or what is wrong."""
        tempo = self.tempo(1)
        return {
            "port": self.port, "bpm": None if tempo is None else round(tempo.bpm, 3),
            "place": None if tempo is None else tempo.place, "said": self._midi.problem,
        }  # fmt: skip

    def start(self) -> None:
        """Watch the port from now on."""
        self._midi.watch()

    def close(self) -> None:
        """Release the port."""
        self._midi.close()
