"""Writing into a folder: tracks become visible by one rename, so that a killed process leaves no partial ones."""

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
    """A folder with one writer at a time. Paths are given as names, from its root down."""

    def __init__(self, path: Path, on_wait: Callable[[], None] | None):
        """Create the folder and acquire its lock; waits for another writer after calling `on_wait`.

        Raises StoreError where there is another writer and no `on_wait`, OSError where the folder is not writable.
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
        """List the names in the folder, without temporary files."""
        return {entry.name for entry in self.path.iterdir()} - {PARTIAL}

    def clear(self) -> None:
        """Remove temporary files of a killed writer."""
        shutil.rmtree(self.path / PARTIAL, ignore_errors=True)

    def write(self, data: bytes, *names: str) -> None:
        """Write one file atomically; its folder, if it is not the root, must exist."""
        final = self.path.joinpath(*names)
        with self.scratch() as work:
            draft = work / "draft"
            draft.write_bytes(data)
            _sync(draft)
            draft.replace(final)
        _sync(final.parent)

    def begin(self, data: bytes, *names: str) -> None:
        """Create a folder with one file, zarr.json, where it does not exist yet."""
        folder = self.path.joinpath(*names)
        folder.mkdir(exist_ok=True)
        if not (folder / "zarr.json").exists():
            self.write(data, *names, "zarr.json")

    def put(self, work: Path, *names: str) -> None:
        """Move the folder `work`, from `scratch`, to these names, replacing an earlier one."""
        final = self.path.joinpath(*names)
        _settle(work)
        if final.exists():
            self.remove(*names)
        work.rename(final)
        _sync(final.parent)

    def remove(self, *names: str) -> None:
        """Hide a folder from readers by one rename, then delete it."""
        with self.scratch() as old:
            self.path.joinpath(*names).rename(old / "old")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Create a temporary folder, which is deleted at the end of the block with its content."""
        work = self.path / PARTIAL / uuid4().hex
        work.mkdir(parents=True)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def close(self) -> None:
        """Release the lock."""
        self.clear()
        os.close(self._lock)

    def abandon(self) -> None:
        """Release the lock and leave all files as they are."""
        os.close(self._lock)


def _settle(folder: Path) -> None:
    """Flush a folder to the disk, so that after a power cut a name stands for a complete track."""
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
    """Acquire a lock that lasts until the handle is closed or the process ends."""
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
