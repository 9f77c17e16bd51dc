"""Writing into a folder: one rename makes a track appear, so that a killed process leaves nothing half done."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from accomp.zarr_store.layout import PARTIAL, StoreError


class Folder:
    """A folder that one process at a time writes to. Paths are given as names, from its root down."""

    def __init__(self, path: Path, on_wait: Callable[[], None] | None):
        """Makes the folder, and waits for another writer after calling `on_wait`.

        Raises StoreError where there is another and no `on_wait`, OSError where nothing can be written.
        """
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path, os.O_RDONLY)
        try:
            _lock(self._lock, path, on_wait)
        except BaseException:
            os.close(self._lock)
            raise

    def entries(self) -> set[str]:
        """Names in the folder, but for what a killed writer was at."""
        return {entry.name for entry in self.path.iterdir()} - {PARTIAL}

    def clear(self) -> None:
        """Remove what a killed writer was at."""
        shutil.rmtree(self.path / PARTIAL, ignore_errors=True)

    def write(self, data: bytes, *names: str) -> None:
        """One file, whole; its folder, if it is not the root, must be there."""
        final = self.path.joinpath(*names)
        with self.scratch() as work:
            draft = work / "draft"
            draft.write_bytes(data)
            _sync(draft)
            draft.replace(final)
        _sync(final.parent)

    def begin(self, data: bytes, *names: str) -> None:
        """A folder with one file, zarr.json, where it is not there yet."""
        folder = self.path.joinpath(*names)
        folder.mkdir(exist_ok=True)
        if not (folder / "zarr.json").exists():
            self.write(data, *names, "zarr.json")

    def put(self, work: Path, *names: str) -> None:
        """The folder `work`, of `scratch`, whole under these names, in place of what was there."""
        final = self.path.joinpath(*names)
        _settle(work)
        if final.exists():
            self.remove(*names)
        work.rename(final)
        _sync(final.parent)

    def remove(self, *names: str) -> None:
        """Out of readers' sight by one rename, then deleted."""
        with self.scratch() as old:
            self.path.joinpath(*names).rename(old / "old")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new folder that nobody reads; what is still in it at the end of the block is deleted."""
        work = self.path / PARTIAL / uuid4().hex
        work.mkdir(parents=True)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def close(self) -> None:
        """Let another writer in."""
        self.clear()
        os.close(self._lock)

    def abandon(self) -> None:
        """Let another writer in, and leave everything as it is."""
        os.close(self._lock)


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
        warnings.warn(f"{path} cannot be locked ({error}): see to it that only one ingest writes there", stacklevel=4)
