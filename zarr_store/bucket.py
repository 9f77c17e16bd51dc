"""Writing into an object store, which has no renames: a track becomes visible with its zarr.json, written last.

Objects are written atomically, and readers find tracks by their zarr.json. So the arrays are written first; a killed
writer leaves arrays without a zarr.json, which no reader sees and the next writer of that track replaces. A track is
removed in the reverse order. A reader that has opened a track before its replacement may get an error for a missing
part.

There is one writer at a time. It holds the lock by rewriting the object .writer periodically; when the object has not
changed for LEASE seconds, the process counts as dead. No clocks of different machines are compared.
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
"""Seconds without renewal after which another writer takes over the lock; it is renewed four times in that time."""


class Bucket:
    """A prefix of an object store with one writer at a time. Methods as those of folder.Folder."""

    def __init__(self, path: ObjectPath, on_wait: Callable[[], None] | None):
        """Acquire the lock. Raises StoreError where another process writes and there is no `on_wait`."""
        self.path = path
        self._lock = _Lock(path / WRITER, LEASE)
        self._lock.take(on_wait)

    def entries(self) -> set[str]:
        """List the names directly below, without the lock."""
        return {entry.name for entry in self.path.iterdir()} - {WRITER}

    def clear(self) -> None:
        """Do nothing: objects of a killed writer are replaced with their track."""

    def write(self, data: bytes, *names: str) -> None:
        """Write one object."""
        self._lock.check()
        self.path.joinpath(*names).write_bytes(data)

    def begin(self, data: bytes, *names: str) -> None:
        """Write zarr.json under these names, where it does not exist yet."""
        if not self.path.joinpath(*names, "zarr.json").exists():
            self.write(data, *names, "zarr.json")

    def put(self, work: Path, *names: str) -> None:
        """Upload the folder `work`, from `scratch`, under these names, replacing earlier objects; its zarr.json
        last.
        """
        self._lock.check()
        self.remove(*names)
        files = sorted(path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file())
        for name in sorted(files, key=lambda name: name == "zarr.json"):
            self.path.joinpath(*names, name).write_bytes((work / name).read_bytes())

    def remove(self, *names: str) -> None:
        """Delete zarr.json first, which hides the rest from readers."""
        self._lock.check()
        final = self.path.joinpath(*names)
        (final / "zarr.json").unlink()
        for object in final.below():
            object.unlink()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Create a local temporary folder."""
        with tempfile.TemporaryDirectory(prefix="accomp-") as work:
            yield Path(work)

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()

    abandon = close


class _Lock:
    """A lock object, owned by the process whose token it contains."""

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
        """Raise StoreError where another writer has taken over, for instance after a suspension of this process."""
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
        """Test that the lock does not change for the length of a lease; False as soon as it changes or is gone."""
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
        """Renew the lock until it is released or lost."""
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
