"""Reading of a token store. Any number of readers may work while a writer adds tracks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from accomp.zarr_store.arrays import Expected
from accomp.zarr_store.checksums import is_sealed
from accomp.zarr_store.layout import (
    FORMAT,
    READABLE,
    SKIPPED,
    TRACKS,
    VERSION,
    Identity,
    SkipRecord,
    StoreError,
    TrackRecord,
    key,
)
from accomp.zarr_store.places import ObjectPath, bytes_below, children, place
from accomp.zarr_store.shards import Damaged, Shard


class StoredTrack:
    """A song in the store: its `record`, and its tokens and levels, which are read lazily.

    Attributes:
        checksums: file below its folder -> SHA-256, hex; empty for a track of before version 3.
    """

    def __init__(self, folder: Path | ObjectPath, record: TrackRecord, identity: Identity, checksums: dict[str, str]):
        """`identity`: of the store's tokenizer."""
        self.folder = folder
        self.record = record
        self.checksums = checksums
        self._identity = identity

    def codes(self, part: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read frames [start, stop) of a part: [stop - start, K] uint16, or latents [stop - start, E] float16.

        Raises IndexError outside the song, StoreError where it is damaged, OSError for a failure of the disk.
        """
        with self._errors_named():
            tokens = self._codes.read(part, start, stop)
            if self._identity.continuous:
                if not np.isfinite(tokens).all():
                    raise Damaged("its latents hold NaN or Inf")
            elif tokens.size and tokens.max() >= self._identity.space["codebook_size"]:
                raise Damaged("its codes lie beyond the codebook")
        return tokens

    def levels(self) -> np.ndarray:
        """Read the A-weighted level of every stem, [S, T] float16 dB. Raises as `codes`."""
        with self._errors_named():
            levels = np.stack([self._level.read(row) for row in range(len(self.record.stems))])
            if not np.isfinite(levels).all():
                raise Damaged("its levels hold NaN or Inf")
        return levels

    def open(self) -> None:
        """Compare the metadata of the arrays with the record, and check the checksums of their indices.

        Raises StoreError where they differ.
        """
        with self._errors_named():
            self._codes, self._level  # noqa: B018

    @property
    def checked(self) -> bool:
        """Test that the chunks have checksums, so that a flipped bit is detected on reading. Raises as `open`."""
        self.open()
        return self._codes.checked and self._level.checked

    def bytes(self) -> int:
        """Return the track's bytes on the disk, including metadata."""
        return bytes_below(self.folder)

    @cached_property
    def _codes(self) -> Shard:
        expected = Expected.tokens(self.record, self._identity)
        return Shard(self.folder / "codes", expected, self.checksums.get("codes/zarr.json"))

    @cached_property
    def _level(self) -> Shard:
        return Shard(self.folder / "level", Expected.levels(self.record), self.checksums.get("level/zarr.json"))

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except Damaged as error:
            raise damaged(self.folder, str(error)) from error


class Store:
    """A token store, open for reading. Tracks that a writer adds later appear in the next call of `tracks`.

    Attributes:
        path: its folder, or its place in an object store.
        identity: tokenizer of its tokens.
        ingest: settings that the tokens depend on beside the tokenizer and the audio, such as the number of submixes.
        version, made_with: of the format, and of the program that wrote it.
        finished: False during an ingest, and after an interrupted one.
    """

    def __init__(self, path: str | Path | ObjectPath, expect: Identity | None = None):
        """Open the store at `path`, a folder or a URL such as s3://bucket/name.

        Raises StoreError for a place without a token store, an unreadable one or one with damaged attributes, and one
        whose identity is not `expect`.
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
        """List the splits that have tracks, sorted."""
        return tuple(sorted({record.split for record in self._records(TRACKS, self._record)}))

    def tracks(self, split: str) -> list[StoredTrack]:
        """Return the complete tracks of a split, ordered by id; empty where there is none.

        Raises StoreError for a damaged record.
        """
        groups = _groups(self.path / TRACKS / key(split))
        return sorted((self.track(*group) for group in groups), key=lambda track: track.record.id)

    def track(self, folder: Path | ObjectPath, attributes: dict[str, Any]) -> StoredTrack:
        """Return the track in a folder with these attributes. Raises StoreError where they are damaged."""
        record = self._record(folder, attributes)
        return StoredTrack(folder, record, self.identity, attributes.get("checksums") or {})

    def records(self) -> list[TrackRecord]:
        """Return the records of all tracks, ordered by split and id."""
        return [record for record, _ in self.versioned_records()]

    def versioned_records(self) -> list[tuple[TrackRecord, bool]]:
        """Return the records of all tracks, each with True where this version wrote its arrays, ordered by split
        and id.
        """

        def both(folder: Path | ObjectPath, attributes: dict[str, Any]) -> tuple[TrackRecord, bool]:
            return self._record(folder, attributes), attributes.get("version") == VERSION

        return sorted(self._records(TRACKS, both), key=lambda found: (found[0].split, found[0].id))

    def skipped(self) -> list[SkipRecord]:
        """Return the tracks that were left out, ordered by split and id."""
        return sorted(self._records(SKIPPED, skip_record), key=lambda record: (record.split, record.id))

    def _records(self, kind: str, make: Callable[[Path | ObjectPath, dict[str, Any]], Any]) -> Iterator[Any]:
        for split, _ in children(self.path / kind, "zarr.json"):
            for group, attributes in _groups(split):
                yield make(group, attributes)

    def _record(self, folder: Path | ObjectPath, attributes: dict[str, Any]) -> TrackRecord:
        if problems := record_problems(folder, attributes, self.identity):
            raise damaged(folder, "; ".join(problems))
        return TrackRecord.of(attributes)


def damaged(folder: Path | ObjectPath, why: str) -> StoreError:
    """Create the error for a damaged song, stored or left out, with its name, the reason and the remedy."""
    store = folder.parent.parent.parent
    return StoreError(
        f"song {unquote(folder.parent.name)}/{unquote(folder.name)}: {why}; `accomp store verify {store} --remove` "
        f"takes such songs out, then ingest again @ {folder}"
    )


def record_problems(folder: Path | ObjectPath, attributes: dict[str, Any], identity: Identity) -> list[str]:
    """List the signs that a track's record was not written for this folder of a store of `identity`."""
    if not is_sealed(attributes) or ("version" in attributes and "checksums" not in attributes):
        return ["its record is not what was written"]
    try:
        record = TrackRecord.of(attributes)
        rows, stems = len(record.parts), len(record.stems)
        problems = []
        if (key(record.split), key(record.id)) != (folder.parent.name, folder.name):
            problems.append(f"the record is that of {record.split}/{record.id}")
        if record.frames < 1 or record.frames != -(-record.samples // identity.space["hop"]):
            problems.append(f"its record has {record.frames} frames for {record.samples} samples")
        if not stems or any(part.kind != "stem" for part in record.parts[:stems]):
            problems.append(f"its record has {stems} stems, which are not its first parts")
        if any(not (0 <= pair.target < stems and 0 <= pair.context < rows) for pair in record.pairs):
            problems.append("its record has pairs of parts that it does not have")
        if any(type(part.instrument) is not int or part.instrument < 0 for part in record.stems):
            problems.append("its record has stems of no instrument")
    except (KeyError, TypeError, AttributeError, ValueError):
        return ["its record, zarr.json, cannot be read"]
    return problems


def skip_record(folder: Path | ObjectPath, attributes: dict[str, Any]) -> SkipRecord:
    """Parse a SkipRecord. Raises StoreError where it is damaged."""
    given = {name: value for name, value in attributes.items() if name != "checksums"}
    try:
        record = SkipRecord(**given)
        if is_sealed(attributes) and (key(record.split), key(record.id)) == (folder.parent.name, folder.name):
            return record
    except (TypeError, ValueError):
        pass
    raise damaged(folder, "the record of why it was left out is not what was written")


def root_attributes(path: Path | ObjectPath) -> dict[str, Any] | None:
    """Read the attributes of the store's root group, None where there is no group. Raises StoreError for another
    format.
    """
    try:
        attributes = attributes_of(path)
        if attributes is None:
            return None
    except Damaged as error:
        raise _broken_root(path, str(error)) from error
    except PermissionError as error:
        raise StoreError(f"the store may not be read: {error.strerror} @ {error.filename or path}") from error
    whole = is_sealed(attributes)
    if attributes.get("format") != FORMAT and not whole:
        raise _broken_root(path, "it is not what was written")
    if attributes.get("format") != FORMAT:
        raise StoreError(f"a Zarr group, but not a token store; choose another path @ {path}")
    if attributes.get("version") not in READABLE:
        raise StoreError(
            f"token store of format version {attributes.get('version')}, this version of accomp reads "
            f"{', '.join(map(str, READABLE[:-1]))} and {READABLE[-1]}; ingest again into another path, or use the "
            f"version of accomp that made it ({attributes.get('made_with')})"
            f"{'' if whole else '; or its description is damaged: then restore it from a copy'} @ {path}"
        )
    fields = {name: attributes.get(name) for name in ("identity", "ingest", "finished", "made_with")}
    sealed = "checksums" in attributes or attributes["version"] < VERSION
    if not (whole and sealed and [type(value) for value in fields.values()] == [dict, dict, bool, str]):
        raise _broken_root(path, "it is not what was written")
    try:
        Identity(**attributes["identity"])
    except TypeError as error:
        raise _broken_root(path, str(error)) from error
    attributes.pop("checksums", None)
    return attributes


def _broken_root(path: Path | ObjectPath, why: str) -> StoreError:
    return StoreError(
        f"broken metadata: the store's own description is damaged ({why}); restore it from a copy, or ingest into "
        f"another path @ {path / 'zarr.json'}"
    )


def check_identity(path: Path | ObjectPath, found: Identity, expect: Identity) -> None:
    """Raise StoreError, naming both sides, where a store's tokens are not those of the expected tokenizer."""
    if found != expect:
        raise StoreError(
            f"the store holds tokens of {found}; this experiment uses {expect}; ingest into another store path, or use "
            f"the tokenizer the store was made with @ {path}"
        )


def attributes_of(group: Path | ObjectPath) -> dict[str, Any] | None:
    """Read the attributes of a group, None where there is no group. Raises Damaged for unreadable metadata."""
    try:
        return parsed((group / "zarr.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def parsed(metadata: bytes) -> dict[str, Any]:
    """Parse the attributes in a group's zarr.json. Raises Damaged where it is invalid."""
    try:
        return dict(json.loads(metadata)["attributes"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"broken metadata ({error})") from error


def _groups(folder: Path | ObjectPath) -> Iterator[tuple[Path | ObjectPath, dict[str, Any]]]:
    for group, metadata in children(folder, "zarr.json"):
        if metadata is not None:
            try:
                yield group, parsed(metadata)
            except Damaged as error:
                raise damaged(group, str(error)) from error
