"""Writing of a token store, safe against a kill at any time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from accomp.zarr_store.bucket import Bucket
from accomp.zarr_store.checksums import changed, sealed, sums_of
from accomp.zarr_store.folder import Folder
from accomp.zarr_store.layout import (
    FORMAT,
    FRAMES,
    SKIPPED,
    TRACKS,
    VERSION,
    Identity,
    SkipRecord,
    StoreError,
    TrackRecord,
    key,
)
from accomp.zarr_store.places import ObjectPath, place
from accomp.zarr_store.reader import Store, attributes_of, check_identity, root_attributes
from accomp.zarr_store.shards import Damaged


def open_for_writing(path: str | Path | ObjectPath, on_wait: Callable[[], None] | None = None) -> Folder | Bucket:
    """Open the place of a store, existing or new, for this process alone; to be closed.

    Waits for another writer after calling `on_wait`; without `on_wait`, raises StoreError at once.
    """
    where = place(path)
    return Bucket(where, on_wait) if isinstance(where, ObjectPath) else Folder(where, on_wait)


class StoreWriter:
    """A token store, created if it is missing, open for adding tracks. One writer at a time; use it in a `with` block.

    Attributes:
        records: the complete tracks, by (split, id).
        skipped: reasons of exclusion of the others, by (split, id).
    """

    def __init__(
        self,
        path: str | Path,
        identity: Identity,
        ingest: dict[str, Any],
        *,
        implied: dict[str, Any] | None = None,
        made_with: str = "",
        on_wait: Callable[[], None] | None = None,
    ):
        """Open the store; waits for another writer after calling `on_wait`; without it, raises StoreError at once.

        Raises StoreError for a folder with other content and for a store of another `identity` or `ingest`, and OSError
        where it is not writable. `implied`: settings that stores of earlier versions do not record in `ingest`.
        `made_with`: name of the program, for later readers.
        """
        self.path = place(path)
        self._files = open_for_writing(self.path, on_wait)
        try:
            self._attributes = self._open(identity, ingest, implied or {}, made_with)
            self._files.clear()
            store = Store(self.path)
            stored = store.versioned_records()
            self.records = {(record.split, record.id): record for record, _ in stored}
            self._old = {(record.split, record.id) for record, current in stored if not current}
            self.skipped = {(record.split, record.id): record.reason for record in store.skipped()}
            self._store = store
            for name in (
                self.skipped.keys() & self.records.keys()
            ):  # the writer was killed between adding the track and removing the skip record
                self._forget_skip(*name)
        except BaseException:
            self._files.abandon()
            raise

    def _open(
        self, identity: Identity, ingest: dict[str, Any], implied: dict[str, Any], made_with: str
    ) -> dict[str, Any]:
        attributes = root_attributes(self.path)
        if attributes is None:
            if others := sorted(self._files.entries()):
                raise StoreError(f"a folder with other things in it ({others[0]}, ...); choose another @ {self.path}")
            attributes = {"format": FORMAT, "version": VERSION, "made_with": made_with, "finished": False}
            attributes |= {"identity": asdict(identity), "ingest": ingest}
            self._files.write(_root(attributes), "zarr.json")
        check_identity(self.path, Identity(**attributes["identity"]), identity)
        current = attributes["version"] == VERSION
        stored = attributes["ingest"] if current else {**implied, **attributes["ingest"]}
        if stored != ingest:
            raise StoreError(
                f"the store was made with {_words(stored)}, this ingest has {_words(ingest)}; choose "
                f"another store path, or the same values @ {self.path}"
            )
        if attributes["version"] != VERSION:
            attributes |= {"version": VERSION, "made_with": made_with, "ingest": ingest}
            self._files.write(_root(attributes), "zarr.json")
        return attributes

    def add(self, record: TrackRecord, codes: np.ndarray, levels: np.ndarray) -> None:
        """Store a track, replacing an earlier one of the same split and id.

        codes [P, T, K], or latents [P, T, E], and levels [S, T] dB. Raises ValueError for arrays that do not fit the
        record and OSError where the disk is full; the store is unchanged then.
        """
        identity = Identity(**self._attributes["identity"])
        expected = (len(record.parts), record.frames, identity.channels), (len(record.stems), record.frames)
        if (codes.shape, levels.shape) != expected:
            raise ValueError(f"codes {codes.shape} and levels {levels.shape}; expected {expected[0]} and {expected[1]}")
        tokens = _latents(codes) if identity.continuous else _codes(codes, identity.space["codebook_size"])
        with self._files.scratch() as work:
            _write_array(work, "codes", tokens, FRAMES)
            _write_array(work, "level", levels.astype(np.float16), record.frames)
            attributes = {**record.attributes(), "version": VERSION}
            (work / "zarr.json").write_bytes(_group(sealed(attributes, sums_of(work))))
            self._put(work, TRACKS, record.split, record.id)
        self.records[record.split, record.id] = record
        self._old.discard((record.split, record.id))
        if (record.split, record.id) in self.skipped:
            self._forget_skip(record.split, record.id)

    def renew(self, record: TrackRecord) -> bool:
        """Add checksums to the chunks of a track of an earlier version; False where it is damaged.

        In a track without any checksums, damage is detected by decoding only.
        """
        if (record.split, record.id) not in self._old:
            return True
        folder = self.path.joinpath(*_names(TRACKS, record.split, record.id))
        try:
            attributes = attributes_of(folder) or {}
            if "checksums" in attributes and changed(folder, attributes):
                return False
            track = self._store.track(folder, attributes)
            codes, levels = [track.codes(row) for row in range(len(record.parts))], track.levels()
        except (StoreError, Damaged):
            return False
        self.add(record, np.stack(codes), levels)
        return True

    def rewrite(self, record: TrackRecord) -> None:
        """Replace the record of unchanged tokens: other labels, or other metadata of the files."""
        names = _names(TRACKS, record.split, record.id)
        stored = attributes_of(self.path.joinpath(*names)) or {}
        attributes = record.attributes() | ({"version": stored["version"]} if "version" in stored else {})
        if "checksums" in stored:  # a track of an earlier version has none, and its files may be damaged
            attributes = sealed(attributes, stored["checksums"])
        self._files.write(_group(attributes), *names, "zarr.json")
        self.records[record.split, record.id] = record

    def skip(self, record: SkipRecord) -> None:
        """Record that a track was left out; an earlier version of it is removed."""
        with self._files.scratch() as work:
            (work / "zarr.json").write_bytes(_group(sealed(asdict(record), {})))
            self._put(work, SKIPPED, record.split, record.id)
        self.skipped[record.split, record.id] = record.reason
        if self.records.pop((record.split, record.id), None):
            self._files.remove(*_names(TRACKS, record.split, record.id))

    def finish(self) -> None:
        """Record that every track of the corpus has been tried."""
        self._mark(True)

    def begin(self) -> None:
        """Record that tracks are about to be added."""
        self._mark(False)

    def _mark(self, finished: bool) -> None:
        if self._attributes["finished"] != finished:
            self._attributes["finished"] = finished
            self._files.write(_root(self._attributes), "zarr.json")

    def _forget_skip(self, split: str, track_id: str) -> None:
        self._files.remove(*_names(SKIPPED, split, track_id))
        del self.skipped[split, track_id]

    def _put(self, work: Path, kind: str, split: str, track_id: str) -> None:
        kind, split, name = _names(kind, split, track_id)
        for group in ((kind,), (kind, split)):
            self._files.begin(_group({}), *group)
        self._files.put(work, kind, split, name)

    def close(self) -> None:
        """Release the lock."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _codes(codes: np.ndarray, size: int) -> np.ndarray:
    if codes.min() < 0 or codes.max() >= min(size, 2**16):
        raise ValueError(f"codes {codes.min()}..{codes.max()} outside 0..{size - 1}")
    return codes.astype(np.uint16)


def _latents(latents: np.ndarray) -> np.ndarray:
    """Convert to float16. Raises ValueError for values beyond its range."""
    rounded = latents.astype(np.float16)
    if not np.array_equal(rounded.astype(latents.dtype), latents) or not np.isfinite(rounded).all():
        raise ValueError("latents that are no finite float16 numbers; a codec of continuous latents gives such")
    return rounded


def _names(kind: str, split: str, track_id: str) -> tuple[str, str, str]:
    return kind, key(split), key(track_id)


def _root(attributes: dict[str, Any]) -> bytes:
    return _group(sealed(attributes, {}))


def _group(attributes: dict[str, Any]) -> bytes:
    """Return the content of zarr.json, the one file of a group."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=2).encode()


def _write_array(folder: Path, name: str, values: np.ndarray, frames: int) -> None:
    """Write [rows, T, ...] as one shard of chunks of a row and at most `frames` frames."""
    rows, length, *rest = values.shape
    chunk = min(frames, length)
    array = zarr.create_array(
        folder / name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(1, chunk, *rest),
        shards=(rows, -(-length // chunk) * chunk, *rest),
        compressors=(BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"), Crc32cCodec()),
        dimension_names=("part", "frame", "level")[: values.ndim],
        config={"write_empty_chunks": True},  # silence is stored too, so a missing chunk is damage
    )
    array[:] = values


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
