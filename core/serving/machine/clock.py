"""A MIDI clock of the server's machine, in the places of its sound device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from accomp.core.realtime.midi_input import MidiInput
from accomp.core.serving.machine.audio import MachineAudio
from accomp.core.serving.messages import Tempo

SILENT = 1.0
"""Seconds without a tick after which the beat is withheld: the sender has ended without a stop."""


class MachineClock:
    """The tempo of a MIDI input, for sessions that play through a device."""

    def __init__(self, midi: MidiInput, audio: MachineAudio, now: Callable[[], float] = time.monotonic):
        """now: s, of the times of both."""
        self._midi, self._audio, self._now = midi, audio, now

    @property
    def port(self) -> str:
        """Name of the MIDI input."""
        return self._midi.name

    def tempo(self, beats_per_bar: int) -> Tempo | None:
        """The tempo at present, its place that of the song's first beat by this tempo, so that it may be below 0; None
        while the clock is stopped or not there.
        """
        pulse, last = self._midi.clock.pulse, self._midi.clock.last
        if pulse is None or last is None or self._now() - last > SILENT:
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
