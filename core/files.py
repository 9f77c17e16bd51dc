"""Writing that a killed process cannot leave half done: a thing gets its final name when all of it is there."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_TICK = 3 * 10**9
"""Nanoseconds in which a file on a disk that counts whole or even seconds may change unseen."""


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` to `path` through a temporary neighbour; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def folder_atomic(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its name, replacing what was there, when the block ends well.

    `replace` False: where another process was first, its folder stays, and the one made here is dropped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield work
        work.chmod(0o777 & ~_umask())
        if not replace:
            _take_free_name(work, path)
        elif path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            path.rename(old / path.name)
            work.rename(path)
            shutil.rmtree(old)
        else:
            work.rename(path)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


@contextmanager
def folder_lock(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """A folder, made if need be, that no other process has locked while the block runs; a killed one lets go of it.

    Calls `on_wait` where another one has it, and waits. Where folders cannot be locked, RuntimeWarning says so.
    """
    import fcntl  # POSIX only

    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            text = f"{path} cannot be locked ({error}): see to it that only one process works there"
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        yield
    finally:
        os.close(handle)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Sequence[Path]) -> str:
    """SHA-256, hex, of the bytes of one file; of several, of their hashes in this order."""
    hashes = [hash_file(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def seen(paths: Sequence[Path]) -> list[list[int]]:
    """What shows a change of files without reading them: of each the size, times of change of content and of entry
    (ns), and inode. Raises OSError.
    """
    found = [path.stat() for path in paths]
    return [[one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino] for one in found]


def settled(found: list[list[int]]) -> bool:
    """Whether a further change would show in `seen`: not yet where the disk counts whole seconds, and this one runs."""
    return not any(changed % 10**9 == 0 and time.time_ns() - changed < _TICK for _, changed, _, _ in found)


def _take_free_name(work: Path, path: Path) -> None:
    try:
        work.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(work)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
