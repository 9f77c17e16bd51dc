"""Writing that a killed process cannot leave half done: a thing gets its final name when all of it is there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from accomp.core.console import warn
from accomp.core.errors import DataError
from accomp.core.trouble import named

OWNER = ".owner.json"
"""In a locked folder: whose lock it is."""

_OLD = "old."
"""In the name of what holds a folder that is being replaced."""

_TICK = 3 * 10**9
"""Nanoseconds in which a file on a disk that counts whole or even seconds may change unseen."""


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` to `path` through a temporary neighbour; parent folders are made."""
    with named(path, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
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
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
    try:
        with named(path, work):
            yield work
            work.chmod(0o777 & ~_umask())
            if not replace:
                _take_free_name(work, path)
            elif path.exists():
                old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{_prefix(path)}{_OLD}"))
                path.rename(old / path.name)
                work.rename(path)
                shutil.rmtree(old)
            else:
                work.rename(path)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def clear_unfinished(folder: Path, names: str) -> None:
    """Remove what killed processes left behind of files and folders whose whole name matches `names`, a regular
    expression, in a folder that nobody else writes to.

    A folder that was about to be replaced, and whose successor never got its name, gets it back.
    """
    unfinished = re.compile(rf"\.(?:{names})\.(?P<old>{re.escape(_OLD)})?[a-z0-9_]{{8}}", re.DOTALL)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (found := unfinished.fullmatch(path.name)):
            continue
        if path.is_dir() and not path.is_symlink():
            for old in path.iterdir() if found["old"] else ():
                if not (folder / old.name).exists():
                    old.rename(folder / old.name)
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def folder_lock(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """A folder, made if need be, that no other process has locked while the block runs; a killed one lets go of it.

    Calls `on_wait` where another one has it, with who that is, and waits. Where folders cannot be locked, as on some
    network file systems, says so. Raises DataError where there can be no such folder, or nothing may be written there.
    """
    import fcntl  # POSIX only

    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise DataError(f"no folder can be made here: {error.strerror} @ {error.filename or path}") from error
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait(_owner(path))
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            warn(f"{path} cannot be locked ({error.strerror}): see to it that only one process works there")
        with _owned(path):
            yield
    finally:
        os.close(handle)


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Says in the folder who works there. What a killed process said is said anew by the next one."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    who = {"process": os.getpid(), "host": platform.node(), "since": since, "command": " ".join(sys.argv[:3])}
    try:
        write_atomic(folder / OWNER, json.dumps(who) + "\n")
    except PermissionError as error:
        raise DataError(f"this folder may not be written to: {error.strerror} @ {folder}") from error
    try:
        yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)


def _owner(folder: Path) -> str:
    """Who works there, as far as that is told; whoever has just got the lock may be about to."""
    for _ in range(10):
        try:
            who = json.loads((folder / OWNER).read_text(encoding="utf-8"))
            return f"process {who['process']} on {who['host']} since {who['since']} ({who['command']})"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.1)
    return "another process"


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


def _prefix(path: Path) -> str:
    """Of the name of a temporary neighbour, which may not be longer than names can be."""
    return f".{path.name.encode()[:150].decode(errors='ignore')}."


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
