"""Writing a token store so that a killed process leaves nothing half done."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from accomp.zarr_store.layout import (
    FORMAT,
    FRAMES,
    PARTIAL,
    SKIPPED,
    TRACKS,
    VERSION,
    Identity,
    SkipRecord,
    StoreError,
    TrackRecord,
    key,
)
from accomp.zarr_store.reader import Store, check_identity, root_attributes


class StoreWriter:
    """A token store, made where there is none, open for adding tracks. One writer at a time; use it in a `with` block.

    Attributes:
        records: the tracks that are complete, by (split, id).
        skipped: why the others were left out, by (split, id).
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        ingest: dict[str, Any],
        *,
        implied: dict[str, Any] | None = None,
        made_with: str = "",
        on_wait: Callable[[], None] | None = None,
    ):
        """Waits for another writer after calling `on_wait`; without `on_wait`, raises StoreError at once.

        Raises StoreError for a folder with other things in it and for a store of another `identity` or `ingest`, and
        OSError where nothing can be written. `implied` is what stores of earlier versions say nothing of in their
        `ingest`, `made_with` a note about the program for those who come later.
        """
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path, os.O_RDONLY)
        try:
            _lock(self._lock, path, on_wait)
            self._attributes = self._open(identity, ingest, implied or {}, made_with)
            shutil.rmtree(path / PARTIAL, ignore_errors=True)
            store = Store(path)
            self.records = {(record.split, record.id): record for record in store.records()}
            self.skipped = {(record.split, record.id): record.reason for record in store.skipped()}
            for name in self.skipped.keys() & self.records.keys():  # killed between adding and forgetting the skip
                self._forget_skip(*name)
        except BaseException:
            os.close(self._lock)
            raise

    def _open(
        self, identity: Identity, ingest: dict[str, Any], implied: dict[str, Any], made_with: str
    ) -> dict[str, Any]:
        attributes = root_attributes(self.path)
        if attributes is None:
            if others := sorted({entry.name for entry in self.path.iterdir()} - {PARTIAL}):
                raise StoreError(f"a folder with other things in it ({others[0]}, ...); choose another @ {self.path}")
            attributes = {"format": FORMAT, "version": VERSION, "made_with": made_with, "finished": False}
            attributes |= {"identity": asdict(identity), "ingest": ingest}
            _write_group(self.path, attributes)
        check_identity(self.path, Identity(**attributes["identity"]), identity)
        held = attributes["ingest"] if attributes["version"] == VERSION else {**implied, **attributes["ingest"]}
        if held != ingest:
            raise StoreError(
                f"the store was made with {_words(held)}, this ingest has {_words(ingest)}; choose "
                f"another store path, or the same values @ {self.path}"
            )
        if attributes["version"] != VERSION:
            attributes |= {"version": VERSION, "made_with": made_with, "ingest": ingest}
            _write_group(self.path, attributes)
        return attributes

    def add(self, record: TrackRecord, codes: np.ndarray, levels: np.ndarray) -> None:
        """Store a track, replacing an earlier one of the same split and id. codes [P, T, K], levels [S, T] dB.

        Raises ValueError for arrays that do not fit the record and OSError where the disk is full; then the store is
        as it was.
        """
        space = self._attributes["identity"]["space"]
        expected = (len(record.parts), record.frames, space["codebooks"]), (len(record.stems), record.frames)
        if (codes.shape, levels.shape) != expected:
            raise ValueError(f"codes {codes.shape} and levels {levels.shape}; expected {expected[0]} and {expected[1]}")
        if codes.min() < 0 or codes.max() >= min(space["codebook_size"], 2**16):
            raise ValueError(f"codes {codes.min()}..{codes.max()} outside 0..{space['codebook_size'] - 1}")
        with self._scratch() as work:
            _write_array(work, "codes", codes.astype(np.uint16), FRAMES)
            _write_array(work, "level", levels.astype(np.float16), record.frames)
            _write_group(work, record.attributes())
            self._put(work, TRACKS, record.split, record.id)
        self.records[record.split, record.id] = record
        if (record.split, record.id) in self.skipped:
            self._forget_skip(record.split, record.id)

    def relabel(self, record: TrackRecord) -> None:
        """Store a record that differs in labels alone from what is there; the tokens stay."""
        final = self._folder(TRACKS, record.split, record.id)
        with self._scratch() as work:
            _write_group(work, record.attributes())
            _settle(work)
            (work / "zarr.json").replace(final / "zarr.json")
        _sync(final)
        self.records[record.split, record.id] = record

    def skip(self, record: SkipRecord) -> None:
        """Remember that a track was left out; an earlier version of it is removed."""
        with self._scratch() as work:
            _write_group(work, asdict(record))
            self._put(work, SKIPPED, record.split, record.id)
        self.skipped[record.split, record.id] = record.reason
        if self.records.pop((record.split, record.id), None):
            self._remove(self._folder(TRACKS, record.split, record.id))

    def stored_at(self, record: TrackRecord) -> float:
        """When a track was stored or last confirmed (s since the epoch)."""
        return (self._folder(TRACKS, record.split, record.id) / "zarr.json").stat().st_mtime

    def confirm(self, record: TrackRecord) -> None:
        """Remember that a track has now been compared with its audio files."""
        os.utime(self._folder(TRACKS, record.split, record.id) / "zarr.json")

    def finish(self) -> None:
        """Remember that every track of the corpus has been tried."""
        self._mark(True)

    def begin(self) -> None:
        """Remember that tracks are about to be added."""
        self._mark(False)

    def _mark(self, finished: bool) -> None:
        if self._attributes["finished"] != finished:
            self._attributes["finished"] = finished
            _write_group(self.path, self._attributes)

    def _folder(self, kind: str, split: str, track_id: str) -> Path:
        return self.path / kind / key(split) / key(track_id)

    def _forget_skip(self, split: str, track_id: str) -> None:
        self._remove(self._folder(SKIPPED, split, track_id))
        del self.skipped[split, track_id]

    def _remove(self, folder: Path) -> None:
        """Out of readers' sight by one rename, then deleted."""
        with self._scratch() as old:
            folder.rename(old / "old")

    def _put(self, work: Path, kind: str, split: str, track_id: str) -> None:
        final = self._folder(kind, split, track_id)
        for parent in (final.parent.parent, final.parent):
            parent.mkdir(exist_ok=True)
            if not (parent / "zarr.json").exists():
                _write_group(parent, {})
        _settle(work)
        if final.exists():
            self._remove(final)
        work.rename(final)
        _sync(final.parent)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A new folder that nobody reads; what is still in it at the end of the block is deleted."""
        work = self.path / PARTIAL / uuid4().hex
        work.mkdir(parents=True)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def close(self) -> None:
        """Let another writer in."""
        shutil.rmtree(self.path / PARTIAL, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_group(folder: Path, attributes: dict[str, Any]) -> None:
    """A group is one JSON file, which takes its name when it is written."""
    text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=2)
    draft = folder / f"zarr.{uuid4().hex}.partial"
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / "zarr.json")
    finally:
        draft.unlink(missing_ok=True)


def _write_array(folder: Path, name: str, values: np.ndarray, frames: int) -> None:
    """[rows, T, ...] as one shard of chunks of a row and at most `frames` frames."""
    rows, length, *rest = values.shape
    chunk = min(frames, length)
    array = zarr.create_array(
        folder / name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(1, chunk, *rest),
        shards=(rows, -(-length // chunk) * chunk, *rest),
        compressors=BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"),
        dimension_names=("part", "frame", "level")[: values.ndim],
        config={"write_empty_chunks": True},  # silence is stored like anything else; what is not there is broken
    )
    array[:] = values


def _settle(folder: Path) -> None:
    """Have everything in a folder on the disk, so that after a power cut a name stands for a whole track."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(handle: int, path: Path, on_wait: Callable[[], None] | None) -> None:
    """Holds until the handle is closed or the process ends, however it ends."""
    import fcntl  # POSIX only, and only writing needs it

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if on_wait is None:
            raise StoreError(f"another process is writing to this store; wait for it @ {path}") from error
        on_wait()
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        warnings.warn(f"{path} cannot be locked ({error}): see to it that only one ingest writes there", stacklevel=3)


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
