"""The published layout of MoisesDB: moisesdb_v0.1/UUID/{data.json, STEM/UUID.wav}, 44.1 kHz stereo.

The stems of a song (drums, guitar, ...) are folders of recordings, for example kick, snare and overheads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from accomp.core.audio import io as audio
from accomp.core.data.song_folders import SPLITS, SongFolders, audio_files, split_of, splits_among, subfolders
from accomp.core.errors import DataError
from accomp.core.music.instruments import CLASSES, from_name
from accomp.core.types import Stem, Track

_INNER = "moisesdb_v0.1"
_UNKNOWN = CLASSES.index("Unknown")
_TYPES = {
    "other_sounds_(hapischord,_melotron_etc)": CLASSES.index("Piano"),  # original spelling
    "other_wind": CLASSES.index("Organ"),  # accordions, harmonicas
}
"""Track types with ambiguous names."""


class MoisesDB:
    """MoisesDB. Recordings of one class in a stem are summed; the class comes from `trackType`.

    A stem of several classes (other_keys: an organ and a synth pad) is divided by class. The `genre` of a song is a
    label. The corpus has no official splits: a hash of the song's id assigns 10 % to validation and 10 % to test.

    Attributes:
        splits: non-empty splits.
        problems: a line for each recording, song or label that was skipped, with the reason; filled by `tracks`.
    """

    @frozen
    class Config:
        """root: the folder moisesdb_v0.1 or its parent; "~" is expanded."""

        root: str

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Write one song of 1 s in each split for the conformance kit."""
        for split in SPLITS:
            name = next(name for name in map("{:08}".format, count()) if split_of(name) == split)
            song = folder / _INNER / name
            files = {"drums": ("kick_drum", "overheads"), "bass": ("bass_guitar",)}
            stems = []
            for stem, types in files.items():
                tracks = [{"id": f"{n:04}", "trackType": kind, "extension": "wav"} for n, kind in enumerate(types)]
                stems.append({"stemName": stem, "tracks": tracks})
                for track in tracks:
                    audio.write(song / stem / f"{track['id']}.wav", np.zeros((1000, 2), dtype=np.float32), 1000)
            (song / "data.json").write_text(json.dumps({"song": "One", "genre": "rock", "stems": stems}))
        return cls.Config(str(folder))

    def __init__(self, config: Config):
        root = Path(config.root).expanduser()
        self._songs = SongFolders(
            str(root / _INNER if (root / _INNER).is_dir() else root),
            dict.fromkeys(SPLITS, ""),
            song="with data.json and STEM/*.wav",
            get="docs/guides/corpora.md says how to download MoisesDB",
        )
        self.problems = self._songs.problems
        root = self._songs.root
        self.splits = splits_among(split_of(path.name) for path in subfolders(root)) if root.is_dir() else SPLITS

    def tracks(self, split: str) -> Iterator[Track]:
        """Yield the songs of a split by folder name. Raises DataError for a missing folder, unknown or empty split."""
        folders = self._songs.of(split, where=lambda folder: split_of(folder.name) == split)
        return self._songs.read(split, folders, self._track)

    def _track(self, folder: Path) -> Track:
        metadata = _metadata(folder / "data.json")
        recordings: dict[str, list[tuple[Path, str]]] = {}
        for entry in metadata["stems"]:
            try:
                name, found = _recordings(folder, entry)
                recordings.setdefault(name, []).extend(found)
            except DataError as error:
                self._songs.leave_out(f"{error} @ {folder / 'data.json'}")
        told = {path for found in recordings.values() for path, _ in found}
        for path in sorted(told):
            if not path.is_file():
                self._songs.leave_out(f"recording is missing; its stem is the sum of the others @ {path}")
        for path in (path for inner in subfolders(folder) for path in audio_files(inner)):
            if path not in told:
                self._songs.leave_out(f"recording without an entry in data.json @ {path}")
        stems: dict[str, Stem] = {}
        for name, found in recordings.items():
            stems |= _by_class(name, [(path, kind) for path, kind in found if path.is_file()])
        if not stems:
            raise DataError(f"song without a usable stem @ {folder}")
        genre = metadata.get("genre")
        labels = self._songs.labels({} if genre is None else {"genre": genre}, str(folder))
        return Track(folder.name, stems, source="MoisesDB", licence="CC BY-NC-SA 4.0", labels=labels)


def _metadata(path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"song without data.json @ {path.parent}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"unreadable metadata ({error}) @ {path}") from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("stems"), list):
        raise DataError(f"metadata without a list of stems @ {path}")
    return metadata


def _recordings(folder: Path, entry: Any) -> tuple[str, list[tuple[Path, str]]]:
    """Return the name of a stem and the path and type of each of its recordings."""
    try:
        name = entry["stemName"]
        found = [
            (folder / name / f"{track['id']}.{track.get('extension', 'wav')}", str(track["trackType"]))
            for track in entry["tracks"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"stem described by {entry!r}; expected stemName, and tracks that have id and trackType"
        ) from error
    return str(name), found


def _by_class(name: str, recordings: list[tuple[Path, str]]) -> dict[str, Stem]:
    """Group the recordings of a folder by class; a single class keeps the name of the folder."""
    files: dict[int, list[Path]] = {}
    kinds: dict[int, list[str]] = {}
    for path, kind in sorted(recordings):
        instrument = _instrument(kind, name)
        files.setdefault(instrument, []).append(path)
        kinds.setdefault(instrument, []).append(kind)
    stems = {}
    for instrument, (path, *more) in files.items():
        own = name if len(files) == 1 else f"{name} {CLASSES[instrument]}"
        told = ", ".join(dict.fromkeys(kinds[instrument]))
        stems[own] = Stem(path, instrument, told, more=tuple(more))
    return stems


def _instrument(kind: str, stem: str) -> int:
    """Return the class by the type of the recording, else by its stem, else Unknown."""
    known = _TYPES.get(kind.replace(" ", "_"))
    found = (known, from_name(kind), from_name(stem))
    return next((instrument for instrument in found if instrument is not None), _UNKNOWN)
