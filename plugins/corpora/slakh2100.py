"""The Slakh2100 layout: {train,validation,test}/TrackNNNNN/{metadata.yaml, stems/Sxx.flac}, at any sample rate.

Slakh2100 itself (44.1 kHz), its redux (whose fourth folder, `omitted`, is left alone) and what
`accomp corpus mini-slakh` makes are read alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from attrs import evolve, frozen

from accomp.core import audio
from accomp.core.conditions import told_labels
from accomp.core.errors import DataError
from accomp.core.instruments import from_program
from accomp.core.types import Stem, Track

_SUFFIXES = (".flac", ".wav")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML was built with it: ten times as fast


class Slakh2100:
    """Slakh2100 and everything laid out like it. A stem's class comes from `is_drum`, else from `program_num`.

    Beyond what Slakh2100 has, the metadata of a song and the entry of a stem may hold `labels: {genre: rock}`.

    Attributes:
        problems: a line for each stem, song or label that was left out, with the reason; filled by `tracks`.
    """

    splits = ("train", "validation", "test")

    @frozen
    class Config:
        """root: the folder that holds train/, validation/ and test/; "~" is understood."""

        root: str

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """One song of a second in each split, for the conformance kit."""
        for number, split in enumerate(cls.splits):
            song = folder / split / f"Track{number:05}"
            audio.write(song / "stems" / "S00.flac", np.zeros(8000, dtype=np.float32), 8000)
            metadata = {"stems": {"S00": {"is_drum": False, "program_num": 33}}}
            (song / "metadata.yaml").write_text(yaml.safe_dump(metadata), encoding="utf-8")
        return cls.Config(str(folder))

    def __init__(self, config: Config):
        self.root = Path(config.root).expanduser()
        self.problems: list[str] = []

    def tracks(self, split: str) -> Iterator[Track]:
        """Songs of a split, by folder name. Raises DataError for a missing folder, an unknown or an empty split."""
        if split not in self.splits:
            raise DataError(f"unknown split {split!r}; expected one of {', '.join(self.splits)} @ {self.root}")
        if not self.root.is_dir():
            raise DataError(
                f"no corpus folder; expected one with {', '.join(self.splits)} in it: download Slakh2100, or make "
                f"one with `accomp corpus mini-slakh {self.root}` @ {self.root}"
            )
        folder = self.root / split
        if not folder.is_dir():
            raise DataError(f"no folder {split}/; {self._instead()} @ {self.root}")
        folders = sorted(path for path in folder.glob("Track*") if path.is_dir())
        if not folders:
            raise DataError(
                f"empty split {split!r}: expected folders TrackNNNNN with metadata.yaml and stems/ @ {folder}"
            )
        return self._read(split, folders)

    def _instead(self) -> str:
        within = [path.name for path in sorted(self.root.iterdir()) if (path / "train").is_dir()]
        if within:
            return f"is {self.root / within[0]} the root?"
        found = ", ".join(sorted(path.name for path in self.root.iterdir())[:5]) or "nothing"
        return f"expected {', '.join(self.splits)}, found {found}"

    def _read(self, split: str, folders: list[Path]) -> Iterator[Track]:
        empty = True
        for folder in folders:
            track = self._track(folder)
            if track is not None:
                empty = False
                yield track
        if empty:
            few = "; ".join(self.problems[:3])
            raise DataError(f"no song of split {split!r} can be used: {few} @ {self.root / split}")

    def _track(self, folder: Path) -> Track | None:
        try:
            metadata = _metadata(folder / "metadata.yaml")
        except DataError as error:
            self._leave_out(str(error))
            return None
        stems = {}
        for name, entry in sorted(metadata["stems"].items(), key=lambda item: str(item[0])):
            try:
                stem = _stem(folder, str(name), entry)
                stems[str(name)] = evolve(stem, labels=self._labels(entry, f"{folder}: {name}"))
            except DataError as error:
                self._leave_out(f"{error} @ {folder}: {name}")
        for path in sorted((folder / "stems").glob("*")):
            if path.suffix in _SUFFIXES and path.stem not in metadata["stems"]:
                self._leave_out(f"stem without an entry in metadata.yaml @ {path}")
        if not stems:
            self._leave_out(f"song without a usable stem @ {folder}")
            return None
        source, licence = metadata.get("source", "Slakh2100"), metadata.get("licence", "CC BY 4.0")
        labels = self._labels(metadata, str(folder))
        return Track(folder.name, stems, source=str(source), licence=str(licence), labels=labels)

    def _labels(self, metadata: dict[str, Any], where: str) -> dict[str, str]:
        labels, problems = told_labels(metadata.get("labels", {}))
        for problem in problems:
            self._leave_out(f"{problem} @ {where}")
        return labels

    def _leave_out(self, why: str) -> None:
        if why not in self.problems:
            self.problems.append(why)


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
