"""Synthesis of one part of a song by tinysoundfont with a General MIDI sound font."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from accomp.core.errors import DataError, PluginError
from accomp.plugins.corpora.mini_slakh.midi import MidiError, Part

if TYPE_CHECKING:
    import mido
    from tinysoundfont import Synth

RATE = 32_000
"""Sample rate (Hz) of rendered audio, that of the codecs (Slakh2100 itself has 44 100)."""
FADE = 0.5
"""Fade-out (s) at the end of every song."""
_HEADROOM = -10.0  # dB per voice; the loudness of the song is set after summing


def carried_font() -> Path:
    """Return the path of TimGM6mb.sf2 (GPL-2.0) in the package pretty_midi. Raises PluginError if missing."""
    spec = find_spec("pretty_midi")
    path = Path(spec.origin).parent / "TimGM6mb.sf2" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise PluginError(
            "no sound font: the package pretty_midi includes one, run: pip install 'accomp[music]'; or give --font"
        )
    return path


def check(font: Path) -> None:
    """Raise PluginError without tinysoundfont, DataError for an unreadable `font`."""
    if find_spec("tinysoundfont") is None:
        # It depends on pyaudio (unused here), which often fails to build; so it is not part of an extra.
        raise PluginError("rendering needs tinysoundfont; run: pip install --no-deps tinysoundfont")
    try:
        _loaded(font)
    except Exception as error:
        raise DataError(f"cannot read sound font: {error}; expected a .sf2 file @ {font}") from error


def render(part: Part, font: Path, samples: int) -> np.ndarray:
    """Render a part to mono float32 [samples] at 32 kHz, not normalised, with a fade-out of 0.5 s.

    Events are sample-accurate. (tinysoundfont's Sequencer is not used: it rounds every gap up to a whole sample, so
    parts with many events would drift.) Raises MidiError for a part the synthesizer rejects.
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
        case "program_change":  # a drum kit; the programs of other channels follow from their part
            synth.program_change(message.channel, message.program, True)
