"""Reading a token store. Any number of readers may work while a writer adds tracks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from accomp.zarr_store.layout import (
    FORMAT,
    READABLE,
    SKIPPED,
    TRACKS,
    Identity,
    SkipRecord,
    StoreError,
    TrackRecord,
    key,
)
from accomp.zarr_store.places import ObjectPath, bytes_below, children, place
from accomp.zarr_store.shards import Shard


class StoredTrack:
    """A song in the store: its `record`, and its tokens and levels, which are read when asked for."""

    def __init__(self, folder: Path | ObjectPath, record: TrackRecord):
        self.folder = folder
        self.record = record

    def codes(self, part: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Frames [start, stop) of a part -> [stop - start, K] uint16, or latents [stop - start, E] float16.

        Raises IndexError outside the song.
        """
        return self._codes.read(part, start, stop)

    def levels(self) -> np.ndarray:
        """A-weighted level of every stem, [S, T] float16 dB."""
        return np.stack([self._level.read(row) for row in range(len(self.record.stems))])

    def bytes(self) -> int:
        """What it takes on the disk, metadata too."""
        return bytes_below(self.folder)

    @cached_property
    def _codes(self) -> Shard:
        return Shard(self.folder / "codes")

    @cached_property
    def _level(self) -> Shard:
        return Shard(self.folder / "level")


class Store:
    """A token store, open for reading. What a writer adds later shows in the next call of `tracks`.

    Attributes:
        path: its folder, or its place in an object store.
        identity: whose tokens it holds.
        ingest: what the tokens depend on beside the tokenizer and the audio, such as the number of submixes.
        version, made_with: of the format, and of the program that made it.
        finished: False while an ingest is at work, and after one that was stopped.
    """

    def __init__(self, path: str | Path | ObjectPath, expect: Identity | None = None):
        """`path`: a folder, or a URL such as s3://bucket/name.

        Raises StoreError for a place without a token store, or one whose identity is not `expect`.
        """
        self.path = where = place(path)
        attributes = root_attributes(where)
        if attributes is None:
            what = "a folder without a token store" if where.exists() else "no such token store"
            raise StoreError(f"{what}; make one with `accomp ingest SPEC` @ {path}")
        self.identity = Identity(**attributes["identity"])
        self.ingest: dict[str, Any] = attributes["ingest"]
        self.version: int = attributes["version"]
        self.made_with: str = attributes["made_with"]
        self.finished: bool = attributes["finished"]
        if expect is not None:
            check_identity(where, self.identity, expect)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that hold tracks, sorted."""
        return tuple(sorted({record.split for record in self._records(TRACKS, TrackRecord.of)}))

    def tracks(self, split: str) -> list[StoredTrack]:
        """The complete tracks of a split, ordered by id; empty where there is none."""
        folder = self.path / TRACKS / key(split)
        found = [StoredTrack(group, TrackRecord.of(attributes)) for group, attributes in _groups(folder)]
        return sorted(found, key=lambda track: track.record.id)

    def records(self) -> list[TrackRecord]:
        """The records of all tracks, ordered by split and id."""
        return sorted(self._records(TRACKS, TrackRecord.of), key=lambda record: (record.split, record.id))

    def skipped(self) -> list[SkipRecord]:
        """Tracks that were left out, ordered by split and id."""
        found = self._records(SKIPPED, lambda attributes: SkipRecord(**attributes))
        return sorted(found, key=lambda record: (record.split, record.id))

    def _records(self, kind: str, make: Any) -> Iterator[Any]:
        for split, _ in children(self.path / kind, "zarr.json"):
            for _, attributes in _groups(split):
                yield make(attributes)


def root_attributes(path: Path | ObjectPath) -> dict[str, Any] | None:
    """Attributes of the store's root group, None where there is no group. Raises StoreError for one of another kind."""
    attributes = attributes_of(path)
    if attributes is None:
        return None
    if attributes.get("format") != FORMAT:
        raise StoreError(f"a Zarr group, but not a token store; choose another path @ {path}")
    if attributes.get("version") not in READABLE:
        raise StoreError(
            f"token store of format version {attributes.get('version')}, this version of accomp reads "
            f"{', '.join(map(str, READABLE[:-1]))} and {READABLE[-1]}; ingest again into another path, or use the "
            f"version of accomp that made it ({attributes.get('made_with')}) @ {path}"
        )
    return attributes


def check_identity(path: Path | ObjectPath, found: Identity, expect: Identity) -> None:
    """Raises StoreError, naming both sides, where a store's tokens are not those of the expected tokenizer."""
    if found != expect:
        raise StoreError(
            f"the store holds tokens of {found}; this experiment uses {expect}; ingest into another store path, or use "
            f"the tokenizer the store was made with @ {path}"
        )


def attributes_of(group: Path | ObjectPath) -> dict[str, Any] | None:
    """Attributes of a group, None where there is no group. Raises StoreError for metadata that cannot be read."""
    try:
        return parsed(group, (group / "zarr.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def parsed(group: Path | ObjectPath, metadata: bytes) -> dict[str, Any]:
    """Attributes out of a group's zarr.json. Raises StoreError where it is broken."""
    try:
        attributes = json.loads(metadata)["attributes"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"broken metadata ({error}); `accomp store verify STORE --remove` takes such songs out, then ingest again "
            f"@ {group}"
        ) from error
    return dict(attributes)


def _groups(folder: Path | ObjectPath) -> Iterator[tuple[Path | ObjectPath, dict[str, Any]]]:
    for group, metadata in children(folder, "zarr.json"):
        if metadata is not None:
            yield group, parsed(group, metadata)
