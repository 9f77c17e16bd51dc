"""Rendering of a song folder in the Slakh2100 layout: metadata.yaml, stems/, MIDI/, mix.flac, all_src.mid."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pretty_midi
import yaml
from attrs import field, frozen

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import loudness
from accomp.core.files import folder_atomic, write_atomic
from accomp.core.music.instruments import CLASSES
from accomp.plugins.corpora.mini_slakh import midi, midi_writer, synth
from accomp.plugins.corpora.mini_slakh.variants import MOMENTS, SPANS, Variant, annotated, transposed

METADATA = "metadata.yaml"
LOUDNESS = -18.0
"""Loudness (LUFS) of every mix, unless limited by its peak."""
PEAK = 0.95
SILENT = -60.0
"""Loudness (LUFS) up to which a stem is silent: it is skipped and reported."""


@frozen
class Source:
    """A MIDI file that is a candidate for a song.

    Attributes:
        name: origin, for example "freedoom 0.12.1-2: freedoom1.wad: D_E1M1".
        licence: of the music.
        data: the file's bytes.
        annotations: ground truth beyond the notes; None for most, whose beats follow from the file.
        variant: change applied to `data`; None for the original.
        group: split key (hex hash) used instead of the fingerprint; None for most.
        labels: conditioning labels by name: `style`, the collection of the song.
    """

    name: str
    licence: str
    data: bytes
    annotations: dict[str, Any] | None = None
    labels: dict[str, str] = field(factory=dict)
    variant: Variant | None = None
    group: str | None = None


def song_of(source: Source, *, longest: float) -> midi.Song:
    """Return the song of a source with its variant applied. Raises MidiError for an unusable file."""
    if source.variant is None:
        return midi.read(source.data, longest=longest)
    song = midi.read(source.data, longest=longest, tempo=source.variant.tempo)
    return transposed(song, source.variant.transpose)


def render_song(source: Source, folder: Path, fonts: Sequence[Path], *, longest: float) -> None:
    """Render `source` into `folder` atomically. Raises MidiError for an unusable song.

    The first of `fonts` is used; in variants, each part uses one of all fonts.

    Stems have equal length, 32 kHz, mono. One gain for the whole song brings the mix to -18 LUFS, or less to keep peaks
    under 0.95; the mix is the sum of the stems.
    """
    song = song_of(source, longest=longest)
    played_by = [_font(source, part, fonts) for part in song.parts]
    samples = round(song.seconds * synth.RATE)
    sounds = [synth.render(part, font, samples) for part, font in zip(song.parts, played_by, strict=True)]
    gain = _gain(sounds)
    levels = [loudness(gain * sound, synth.RATE) for sound in sounds]
    silent = tuple(_program_name(part) for part, level in zip(song.parts, levels, strict=True) if level <= SILENT)
    heard = [row for row in zip(song.parts, sounds, levels, played_by, strict=True) if row[2] > SILENT]
    if len(heard) < 2:
        raise midi.MidiError(f"{len(heard)} audible stem(s); expected at least 2")
    with folder_atomic(folder) as work:
        (work / "MIDI").mkdir()
        stems = {}
        for number, (part, sound, level, font) in enumerate(heard):
            name = f"S{number:02d}"
            audio.write(work / "stems" / f"{name}.flac", gain * sound, synth.RATE)
            (work / "MIDI" / f"{name}.mid").write_bytes(midi_writer.write(song, (part,)))
            stems[name] = _stem_entry(part, font, level)
        audio.write(work / "mix.flac", gain * _sum([row[1] for row in heard]), synth.RATE)
        (work / "all_src.mid").write_bytes(midi_writer.write(song, tuple(row[0] for row in heard)))
        entry = {
            "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, song.fingerprint + _suffix(source))),
            "audio_dir": "stems",
            "midi_dir": "MIDI",
            "normalized": True,
            "normalization_factor": LOUDNESS,
            "overall_gain": float(gain),
            "sample_rate": synth.RATE,
            "seconds": samples / synth.RATE,
            "fingerprint": song.fingerprint,
            "source": source.name,
            "licence": source.licence,
            "labels": dict(source.labels),
            "silent_stems": list(silent),
            "stems": stems,
            "annotations": _known(source, song),
        }
        if source.variant is not None:
            entry["variant"] = variant_entry(source.variant, folder.name)
        (work / METADATA).write_text(_dumped(entry), encoding="utf-8")


def variant_entry(variant: Variant, folder: str) -> dict[str, Any]:
    """Return the description of a variant for metadata and record; `folder` is its own."""
    return {
        "of": PurePosixPath(folder).name.removesuffix(variant.suffix),
        "transpose": variant.transpose,
        "tempo": variant.tempo,
        "fonts_only": variant.fonts_only,
    }


def add_known(folder: Path, source: Source, *, longest: float) -> bool:
    """Add the labels and annotations of the source to a song of an earlier version; return True if added.

    The audio stays. Raises MidiError for an unusable file.
    """
    path = folder / METADATA
    data = b"\n" + path.read_bytes() if path.is_file() else b"\nlabels:\nannotations:"
    added: dict[str, Any] = {}
    if b"\nlabels:" not in data:
        added["labels"] = dict(source.labels)
    if b"\nannotations:" not in data:
        added["annotations"] = _known(source, song_of(source, longest=longest))
    if added:
        write_atomic(path, _dumped(yaml.safe_load(data) | added))
    return bool(added)


def _dumped(entry: dict[str, Any]) -> str:
    return yaml.safe_dump(entry, allow_unicode=True)


def _font(source: Source, part: midi.Part, fonts: Sequence[Path]) -> Path:
    return fonts[0] if source.variant is None else source.variant.font_of(source.name, part, fonts)


def _suffix(source: Source) -> str:
    return "" if source.variant is None else source.variant.suffix


def _known(source: Source, song: midi.Song) -> dict[str, Any]:
    if source.annotations is None:
        return {"by": "MIDI", "beats": list(song.beats), "downbeats": list(song.downbeats)}
    known = source.annotations if source.variant is None else annotated(source.annotations, source.variant)
    return _within(known, song)


def _sum(sounds: list[np.ndarray]) -> np.ndarray:
    return functools.reduce(np.add, sounds)


def _gain(sounds: list[np.ndarray]) -> float:
    mix = _sum(sounds)
    peak = max(float(np.abs(sound).max()) for sound in (mix, *sounds))
    if peak == 0.0:
        raise midi.MidiError("no audible notes")
    return min(10 ** ((LOUDNESS - loudness(mix, synth.RATE)) / 20), PEAK / peak)


def _program_name(part: midi.Part) -> str:
    return "Drums" if part.is_drum else pretty_midi.program_to_instrument_name(part.program)


def _within(annotations: dict[str, Any], song: midi.Song) -> dict[str, Any]:
    """Restrict annotations to the song and shift them to its time: spans are cut, outside times dropped."""

    def moved(time: float) -> float:
        return round(min(max(time - song.begin, 0.0), song.seconds), 6)

    def inside(time: float) -> bool:
        return song.begin - midi.PLAYED_LATE <= time < song.begin + song.seconds

    def cut(spans: list[list[Any]]) -> list[list[Any]]:
        moved_spans = [(moved(start), moved(end), name) for start, end, name in spans]
        return [[start, end, name] for start, end, name in moved_spans if end - start > 1e-4]

    moments = {key: [moved(t) for t in annotations[key] if inside(t)] for key in MOMENTS if key in annotations}
    return annotations | moments | {key: cut(annotations[key]) for key in SPANS if key in annotations}


def _stem_entry(part: midi.Part, font: Path, loudness: float) -> dict[str, Any]:
    return {
        "audio_rendered": True,
        "inst_class": "Drums" if part.is_drum else CLASSES[part.instrument],
        "integrated_loudness": loudness,
        "is_drum": part.is_drum,
        "midi_program_name": _program_name(part),
        "midi_saved": True,
        "plugin_name": font.name,
        "program_num": part.program,
    }
