"""A server that plays through a device and follows a MIDI clock, both turned by a thread in the device's time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mido
from midi_ports import Ports, ticks
from serving_small import Running, serving, small_player
from turned_device import BLOCK, RATE, Turned, audio_at, noise, turning

from accomp.core.realtime.midi_input import MidiInput
from accomp.core.serving.machine.clock import MachineClock

PORT = "DAW"


@contextmanager
def clocked_server(record: Path) -> Iterator[tuple[Running, Ports]]:
    """The server and its MIDI ports. The clock has 100 beats a minute; a song begins at the device's first second."""
    device = Turned(first=320)
    device.hold(120)
    audio, ports, at = audio_at(device), Ports(PORT), [0.0]
    midi = MidiInput(PORT, ports, now=lambda: at[0])
    clock = MachineClock(midi, audio)
    player = small_player(timelines=("metronome", "chart"))
    times = ticks(100, 1e3, begin=1.0)
    at[0] = next(times)

    def send(number: int) -> None:
        if number == 100:
            ports.send(mido.Message("start"))
        while at[0] <= device.count / RATE:
            ports.send(mido.Message("clock"))
            at[0] = next(times)

    with (
        serving(players=[("small", player)], record=record, device=audio, clock=clock) as running,
        turning(device, audio, noise(400 * BLOCK, 5), pause=BLOCK / RATE / 2, before=send),
    ):
        yield running, ports
