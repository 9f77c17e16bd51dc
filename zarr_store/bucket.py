"""Writing into an object store, where nothing can be renamed: what makes a track appear is its zarr.json, put last.

An object is put whole or not at all, and readers look for tracks by their zarr.json. So the arrays are put first; what
a killed writer leaves are arrays without a zarr.json, which no reader sees and the next writer of that track replaces.
A track is removed in the reverse order. A reader that has already opened a track that is being replaced may be told
that a part of it is gone.

One process at a time writes. It holds the lock while it keeps putting the object .writer anew; when that has stood
still for LEASE seconds, the process is taken to be dead. Nobody's clock is compared with another's.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from accomp.zarr_store.layout import WRITER, StoreError
from accomp.zarr_store.places import ObjectPath

LEASE = 60.0
"""Seconds without a sign of life after which another writer takes over; four signs are given in that time."""


class Bucket:
    """A prefix of an object store that one process at a time writes to. Methods as those of folder.Folder."""

    def __init__(self, path: ObjectPath, on_wait: Callable[[], None] | None):
        """Raises StoreError where another process writes and there is no `on_wait`."""
        self.path = path
        self._lock = _Lock(path / WRITER, LEASE)
        self._lock.take(on_wait)

    def entries(self) -> set[str]:
        """Names directly below, but for the lock."""
        return {entry.name for entry in self.path.iterdir()} - {WRITER}

    def clear(self) -> None:
        """Nothing to do: whatever a killed writer was at is replaced with its track."""

    def write(self, data: bytes, *names: str) -> None:
        """One object."""
        self._lock.check()
        self.path.joinpath(*names).write_bytes(data)

    def begin(self, data: bytes, *names: str) -> None:
        """zarr.json under these names, where it is not there yet."""
        if not self.path.joinpath(*names, "zarr.json").exists():
            self.write(data, *names, "zarr.json")

    def put(self, work: Path, *names: str) -> None:
        """The folder `work`, of `scratch`, under these names, in place of what was there; its zarr.json last."""
        self._lock.check()
        self.remove(*names)
        files = sorted(path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file())
        for name in sorted(files, key=lambda name: name == "zarr.json"):
            self.path.joinpath(*names, name).write_bytes((work / name).read_bytes())

    def remove(self, *names: str) -> None:
        """zarr.json first: from then on no reader sees the rest."""
        self._lock.check()
        final = self.path.joinpath(*names)
        (final / "zarr.json").unlink()
        for object in final.below():
            object.unlink()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new folder on this machine."""
        with tempfile.TemporaryDirectory(prefix="accomp-") as work:
            yield Path(work)

    def close(self) -> None:
        """Let another writer in."""
        self._lock.release()

    abandon = close


class _Lock:
    """An object that belongs to the process whose words it holds."""

    def __init__(self, place: ObjectPath, lease: float):
        self._place, self._lease = place, lease
        self._who = {"host": platform.node(), "process": os.getpid(), "writer": uuid4().hex}
        self._signs = 0
        self._lost = ""
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def take(self, on_wait: Callable[[], None] | None) -> None:
        waited = False
        while not self._place.create(self._words()):
            if on_wait is None:
                raise StoreError(f"another process is writing to this store; wait for it @ {self._place.parent}")
            if not waited:
                on_wait()
                waited = True
            if self._stands_still():
                self._place.unlink()
        self._thread.start()

    def check(self) -> None:
        """Raises StoreError where another writer has taken over, as when this process was asleep for long."""
        if self._lost:
            raise StoreError(f"this process has lost its hold of the store ({self._lost}); run the same command again")

    def release(self) -> None:
        self._released.set()
        self._thread.join()
        if not self._lost and self._is_mine():
            self._place.unlink()

    def _words(self) -> bytes:
        self._signs += 1
        return json.dumps({**self._who, "signs": self._signs}).encode()

    def _stands_still(self) -> bool:
        """Whether the lock stays the same for the length of a lease; False as soon as it changes or is gone."""
        before, until = self._read(), time.monotonic() + self._lease
        while time.monotonic() < until:
            time.sleep(self._lease / 20)
            if before is None or self._read() != before:
                return False
        return True

    def _read(self) -> bytes | None:
        try:
            return self._place.read_bytes()
        except FileNotFoundError:
            return None

    def _is_mine(self) -> bool:
        words = self._read()
        return words is not None and str(self._who["writer"]) in words.decode(errors="replace")

    def _keep(self) -> None:
        """Gives signs of life until the lock is released or lost."""
        missed = time.monotonic() + self._lease
        while not self._released.wait(self._lease / 4):
            try:
                if not self._is_mine():
                    self._lost = f"another one has taken over @ {self._place.parent}"
                    return
                self._place.write_bytes(self._words())
                missed = time.monotonic() + self._lease
            except (StoreError, OSError) as error:
                if time.monotonic() > missed:
                    self._lost = f"no sign of life could be given: {error}"
                    return
