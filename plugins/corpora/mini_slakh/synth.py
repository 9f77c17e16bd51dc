"""One part of a song as sound, through tinysoundfont and a General MIDI sound font."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from accomp.plugin import DataError, PluginError
from accomp.plugins.corpora.mini_slakh.midi import MidiError, Part

if TYPE_CHECKING:
    import mido
    from tinysoundfont import Synth

RATE = 32_000
"""Hz of everything rendered: what the codecs work at (Slakh2100 itself is at 44 100)."""
FADE = 0.5
"""Seconds over which every song fades out at its end, cut or not."""
_HEADROOM = -10.0  # dB on every voice; the song's loudness is set after the stems are summed


def carried_font() -> Path:
    """TimGM6mb.sf2 (GPL-2.0), which the package pretty_midi carries. Raises PluginError where it is missing."""
    spec = find_spec("pretty_midi")
    path = Path(spec.origin).parent / "TimGM6mb.sf2" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise PluginError(
            "no sound font: the package pretty_midi carries one, run: pip install 'accomp[music]'; or give --font"
        )
    return path


def check(font: Path) -> None:
    """Raises PluginError without tinysoundfont, DataError for a `font` that it cannot read."""
    if find_spec("tinysoundfont") is None:
        # It asks for pyaudio (to play aloud, unused here), which seldom builds; so no extra can bring it.
        raise PluginError("rendering needs tinysoundfont; run: pip install --no-deps tinysoundfont")
    try:
        _loaded(font)
    except Exception as error:
        raise DataError(f"cannot read sound font: {error}; expected a .sf2 file @ {font}") from error


def render(part: Part, font: Path, samples: int) -> np.ndarray:
    """The part as mono float32 [samples] at 32 kHz, not normalised; the last half second fades out.

    Every event takes effect at its own sample. (tinysoundfont's Sequencer rounds each gap up to a whole sample, so that
    parts with many events would fall behind; it is not used.) Raises MidiError for a part the synthesizer refuses.
    """
    synth, sound = _loaded(font)
    audio = np.zeros((samples, 2), np.float32)
    try:
        for channel in {event.message.channel for event in part.events}:
            if part.is_drum:
                synth.program_change(channel, 0, True)
            else:
                synth.program_select(channel, sound, 0, part.program)
        _play(synth, part, audio)
    except RuntimeError as error:
        raise MidiError(f"program {part.program} cannot be played with {font.name}: {error}") from error
    mono = 0.5 * (audio[:, 0] + audio[:, 1])
    fade = min(samples, round(FADE * RATE))
    mono[samples - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return mono


def _loaded(font: Path) -> tuple[Synth, int]:
    import tinysoundfont

    synth = tinysoundfont.Synth(gain=_HEADROOM, samplerate=RATE)
    return synth, synth.sfload(str(font))


def _play(synth: Synth, part: Part, audio: np.ndarray) -> None:
    """Fill `audio` [N, 2], float32 zeros."""
    samples, frame = len(audio), audio.strides[0]
    buffer = audio.data.cast("B")
    at = 0
    for event in part.events:
        due = min(round(event.seconds * RATE), samples)
        if due > at:
            synth.generate_simple(due - at, buffer=buffer[at * frame : due * frame])
            at = due
        _send(synth, event.message)
    if at < samples:
        synth.generate_simple(samples - at, buffer=buffer[at * frame :])


def _send(synth: Synth, message: mido.Message) -> None:
    match message.type:
        case "note_on":
            synth.noteon(message.channel, message.note, message.velocity)
        case "note_off":
            synth.noteoff(message.channel, message.note)
        case "control_change":
            synth.control_change(message.channel, message.control, message.value)
        case "pitchwheel":
            synth.pitchbend(message.channel, message.pitch + 8192)
        case "program_change":  # a drum kit: the other channels' programs are fixed by their part
            synth.program_change(message.channel, message.program, True)
