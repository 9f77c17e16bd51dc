"""Atomic writes of files and folders, which get their final names only when complete, and reading of JSON records."""

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
from typing import Any

from accomp.core.console import warn
from accomp.core.errors import DataError, UserError
from accomp.core.trouble import named

OWNER = ".owner.json"
"""File in a locked folder that names the process which holds the lock."""

_OLD = "old."
"""Infix in the temporary name of a folder that is being replaced."""

_TICK = 3 * 10**9
"""Nanoseconds within which a change may be invisible on file systems with timestamps of one or two seconds."""


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` to `path` through a temporary file beside it; missing parent folders are created."""
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
    """Yield a temporary folder that is renamed to `path`, replacing an existing one, when the block succeeds.

    `replace` False: a folder that another process created first stays, and the new one is discarded.
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
    """Remove temporary files and folders that killed processes left in a folder without other writers.

    names: a regular expression that the whole final name matches. A folder whose replacement was interrupted gets its
    name back.
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
    """Hold an exclusive lock on a folder, which is created if missing; the lock of a killed process is released.

    Calls `on_wait` with the owner where the folder is locked, and waits. Warns where folders cannot be locked, as on
    some network file systems. Raises DataError where the folder cannot be created or written to.
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
    """Record the owner in the folder; the record of a killed process is overwritten by the next one."""
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
    """Describe the owner of a lock; retries briefly, since a new owner may not have written its record yet."""
    for _ in range(10):
        try:
            who = json.loads((folder / OWNER).read_text(encoding="utf-8"))
            return f"process {who['process']} on {who['host']} since {who['since']} ({who['command']})"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.1)
    return "another process"


def hash_file(path: Path) -> str:
    """Hash a file's bytes: SHA-256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Sequence[Path]) -> str:
    """Hash files: SHA-256, hex, of the bytes of one file; of several, of their hashes in this order."""
    hashes = [hash_file(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def seen(paths: Sequence[Path]) -> list[list[int]]:
    """Return metadata that reveals a change of files without reading them: size, mtime and ctime (ns), inode of each.

    Raises OSError.
    """
    found = [path.stat() for path in paths]
    return [[one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino] for one in found]


def settled(found: list[list[int]]) -> bool:
    """Test that a further change would show in `seen`; false within one tick of a file system that counts whole
    seconds.
    """
    return not any(changed % 10**9 == 0 and time.time_ns() - changed < _TICK for _, changed, _, _ in found)


def _prefix(path: Path) -> str:
    """Return the prefix of temporary names, shortened to the limit of file names."""
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


def read_record(path: Path, cure: str, *, missing: str = "", error: type[UserError] = DataError) -> dict[str, Any]:
    """Read the JSON object in a file. Raises `error`, with the `cure`, where there is none.

    missing: the message, instead, where the file does not exist.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as why:
        if missing and isinstance(why, FileNotFoundError):
            raise error(f"{missing} @ {path}") from why
        raise error(f"cannot read: {why}; {cure} @ {path}") from why
    if not isinstance(data, dict):
        raise error(f"expected a JSON object, got {type(data).__name__}; {cure} @ {path}")
    return data
