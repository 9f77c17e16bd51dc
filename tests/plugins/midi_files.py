"""Small MIDI files for the tests, written note by note."""

from __future__ import annotations

import io
import struct

import mido

RESOLUTION = 480


def midi_file(*tracks, kind=1, resolution=RESOLUTION):
    """Bytes of a MIDI file. A track is a list of (tick, mido message or meta message), in any order of ticks."""
    file = mido.MidiFile(type=kind, ticks_per_beat=resolution)
    for events in tracks:
        track, last = mido.MidiTrack(), 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=tick - last))
            last = tick
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def note(tick, pitch, length=240, channel=0, velocity=90):
    """The start and the end of one note."""
    return [
        (tick, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)),
        (tick + length, mido.Message("note_off", channel=channel, note=pitch)),
    ]


def program(number, channel=0, tick=0):
    return [(tick, mido.Message("program_change", channel=channel, program=number))]


def control(tick, number, value, channel=0):
    return [(tick, mido.Message("control_change", channel=channel, control=number, value=value))]


def tempo(tick, microseconds):
    return [(tick, mido.MetaMessage("set_tempo", tempo=microseconds))]


def band(beats=40, *, tune=0, shift=0, bpm=120, programs=(0, 33), velocity=90, pause=0):
    """Piano, bass and drums on every beat, after `pause` beats; `tune` chooses the music, `shift` transposes it."""
    start = pause * RESOLUTION
    piano = program(programs[0], 0)
    bass = program(programs[1], 1)
    drums = []
    for beat in range(beats):
        tick = start + beat * RESOLUTION
        for third in (0, 4, 7):
            piano += note(tick, 60 + shift + third + beat * 5 % (7 + tune), channel=0, velocity=velocity)
        bass += note(tick, 40 + shift + beat * 3 % 5, channel=1, velocity=velocity)
        drums += note(tick, 36, channel=9, velocity=velocity)
    return midi_file(tempo(0, 60_000_000 // bpm), piano, bass, drums)


def wad_file(*lumps):
    """A WAD file of (name, bytes) lumps."""
    body, entries = b"", b""
    for name, data in lumps:
        entries += struct.pack("<ii8s", 12 + len(body), len(data), name.encode())
        body += data
    return struct.pack("<4sii", b"PWAD", len(lumps), 12 + len(body)) + body + entries
