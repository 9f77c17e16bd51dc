"""The Slakh2100 layout: {train,validation,test}/TrackNNNNN/{metadata.yaml, stems/Sxx.flac}, at any sample rate.

Slakh2100 itself (44.1 kHz), its redux (whose fourth folder, `omitted`, is ignored) and the output
of `accomp corpus mini-slakh` are read alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from attrs import Attribute, evolve, field, frozen

from accomp.core.audio import io as audio
from accomp.core.data.song_folders import SPLITS, SongFolders
from accomp.core.errors import DataError
from accomp.core.music.instruments import from_program
from accomp.core.types import Stem, Track

_SUFFIXES = (".flac", ".wav")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader, if available, is ten times faster


def _distinct(_: Any, attribute: Attribute, root: str | tuple[str, ...]) -> None:
    names = [Path(one).name for one in ((root,) if isinstance(root, str) else root)]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{attribute.name}: {names}; expected folders, at least one, each of another name")


class Slakh2100:
    """Slakh2100 and corpora in the same layout. The class of a stem comes from `is_drum`, else from `program_num`.

    As an extension of Slakh2100, the metadata of a song and the entry of a stem may have `labels: {genre: rock}`, and
    that of a song `annotations` (core/music/annotations.py).
    """

    splits = SPLITS

    @frozen
    class Config:
        """root: folder with train/, validation/ and test/, or several of them; "~" is expanded.

        With several roots, song names include the folder of their root: "mma-Track00001".
        """

        root: str | tuple[str, ...] = field(validator=_distinct)

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Write one song of 1 s in each split for the conformance kit."""
        for number, split in enumerate(cls.splits):
            song = folder / split / f"Track{number:05}"
            audio.write(song / "stems" / "S00.flac", np.zeros(8000, dtype=np.float32), 8000)
            metadata = {"stems": {"S00": {"is_drum": False, "program_num": 33}}}
            (song / "metadata.yaml").write_text(yaml.safe_dump(metadata), encoding="utf-8")
        return cls.Config(str(folder))

    def __init__(self, config: Config):
        roots = (config.root,) if isinstance(config.root, str) else config.root
        self._roots = [
            SongFolders(
                root,
                {split: split for split in self.splits},
                song="TrackNNNNN with metadata.yaml and stems/",
                get=f"download Slakh2100, or make one with `accomp corpus mini-slakh {root}`",
            )
            for root in roots
        ]

    @property
    def problems(self) -> list[str]:
        """A line for each stem, song or label that was skipped, with the reason; filled by `tracks`."""
        return [problem for songs in self._roots for problem in songs.problems]

    def tracks(self, split: str) -> Iterator[Track]:
        """Yield the songs of a split, root by root, by folder name.

        Raises DataError for a missing folder, unknown or empty split.
        """
        folders = [songs.of(split, "Track*") for songs in self._roots]  # raises for missing folders first
        return chain.from_iterable(
            songs.read(split, found, partial(self._track, songs))
            for songs, found in zip(self._roots, folders, strict=True)
        )

    def _track(self, songs: SongFolders, folder: Path) -> Track:
        metadata = _metadata(folder / "metadata.yaml")
        stems = {}
        for name, entry in sorted(metadata["stems"].items(), key=lambda item: str(item[0])):
            try:
                stem = _stem(folder, str(name), entry)
            except DataError as error:
                songs.leave_out(f"{error} @ {folder}: {name}")
            else:
                labels = songs.labels(entry.get("labels", {}), f"{folder}: {name}")
                stems[str(name)] = evolve(stem, labels=labels)
        for path in sorted((folder / "stems").glob("*")):
            if path.suffix in _SUFFIXES and path.stem not in metadata["stems"]:
                songs.leave_out(f"stem without an entry in metadata.yaml @ {path}")
        if not stems:
            raise DataError(f"song without a usable stem @ {folder}")
        source, licence = metadata.get("source", "Slakh2100"), metadata.get("licence", "CC BY 4.0")
        labels = songs.labels(metadata.get("labels", {}), str(folder))
        annotations = songs.annotations(metadata.get("annotations"), str(folder))
        id = folder.name if len(self._roots) == 1 else f"{songs.root.name}-{folder.name}"
        return Track(id, stems, str(source), str(licence), labels, annotations)


def _metadata(path: Path) -> dict[str, Any]:
    try:
        metadata = yaml.load(path.read_bytes(), _LOADER)
    except FileNotFoundError as error:
        raise DataError(f"song without metadata.yaml @ {path.parent}") from error
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"unreadable metadata ({' '.join(str(error).split())}) @ {path}") from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("stems"), dict):
        raise DataError(f"metadata without a table of stems @ {path}")
    return metadata


def _stem(folder: Path, name: str, entry: Any) -> Stem:
    if not isinstance(entry, dict):
        raise DataError(f"stem described by {entry!r}; expected a table with is_drum and program_num")
    is_drum, program = entry.get("is_drum"), entry.get("program_num")
    if not isinstance(is_drum, bool):
        raise DataError(f"is_drum is {is_drum!r}; expected true or false")
    if is_drum:
        program = 0  # Slakh2100 writes 128, which is no General MIDI program
    elif isinstance(program, bool) or not isinstance(program, int):
        raise DataError(f"program_num is {program!r}; expected 0..127")
    try:
        instrument = from_program(program, is_drum=is_drum)
    except ValueError as error:
        raise DataError(f"program_num: {error}") from error
    for suffix in _SUFFIXES:
        path = folder / "stems" / f"{name}{suffix}"
        if path.is_file():
            return Stem(path, instrument, str(entry.get("midi_program_name", "")))
    if entry.get("audio_rendered") is False:
        raise DataError("stem was never rendered (audio_rendered: false)")
    raise DataError(f"stem file is missing; expected stems/{name}.flac")
