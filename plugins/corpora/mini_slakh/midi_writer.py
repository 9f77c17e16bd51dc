"""Writing of songs to MIDI files."""

from __future__ import annotations

import io

import mido

from accomp.plugins.corpora.mini_slakh.midi import Part, Song


def write(song: Song, parts: tuple[Part, ...]) -> bytes:
    """Write parts to a type 1 MIDI file, synchronous with the rendered audio."""
    file = mido.MidiFile(type=1, ticks_per_beat=song.resolution)
    conductor = mido.MidiTrack()
    last = 0
    for tick, tempo in song.tempos:
        conductor.append(mido.MetaMessage("set_tempo", tempo=tempo, time=tick - last))
        last = tick
    file.tracks.append(conductor)
    for part in parts:
        track = mido.MidiTrack()
        if not part.is_drum:
            channels = sorted({event.message.channel for event in part.events})
            track.extend(mido.Message("program_change", channel=channel, program=part.program) for channel in channels)
        last = 0
        for event in part.events:
            track.append(event.message.copy(time=event.tick - last))
            last = event.tick
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()
