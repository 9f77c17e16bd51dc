"""System faults that are no result of the work: a full disk, a missing permission, exhausted memory.

Code that records a failed task calls this module first and re-raises such an error, so that the command ends and can be
repeated. It is the only place that classifies these errors and words their messages.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accomp.core.errors import UserError

_FULL = ("the disk is full", "make room")
_REFUSED = ("permission is denied", "give this user the right to it")
_AWAY = ("the disk is out of reach", "see to it or its connection")
_TOO_MANY = ("too many files are open", "close some, or raise the limit (ulimit -n)")

_MEMORY = (
    "out of memory",
    "free some, or ask for less at once (in training train.batch, train.frames; train.accumulate makes up),",
)

_KINDS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: ("the file is larger than the system allows", "raise the limit (ulimit -f), or take another disk"),
    errno.EACCES: _REFUSED,
    errno.EPERM: _REFUSED,
    errno.EROFS: ("the disk may only be read", "make it writable"),
    errno.EXDEV: ("what belongs to one folder lies on two disks", "have all of it on one"),
    errno.EIO: ("the disk fails", "see to it or its connection"),
    errno.ESTALE: _AWAY,
    errno.ENOTCONN: _AWAY,
    errno.ETIMEDOUT: _AWAY,
    errno.ENODEV: _AWAY,
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
}
"""errno -> description and remedy."""

_OF_RUST = re.compile(r"\(os error (\d+)\)")


def trouble_in(error: BaseException | None) -> OSError | MemoryError | None:
    """Return the system fault in the chain of causes of an error, None where there is none.

    A UserError caused by a missing permission does not count: its message already names the path.
    """
    explained = False
    while error is not None:
        explained = explained or isinstance(error, UserError)
        found = _as_trouble(error)
        if found is not None and not (explained and _kind(found) is _REFUSED):
            return found
        error = error.__cause__ or error.__context__
    return None


def raise_trouble(error: BaseException) -> None:
    """Raise the system fault that caused `error`, if there is one."""
    if (found := trouble_in(error)) is not None:
        raise found from (None if found is error else error)


def words(trouble: OSError | MemoryError) -> str:
    """Compose the message: the fault, the file, the free space, the remedy; finished work is kept."""
    return f"{fault(trouble)}; what is done is kept; {_kind(trouble)[1]} and run the same command again to go on"


def fault(trouble: OSError | MemoryError) -> str:
    """Describe the fault: its kind, the file, the free space."""
    if isinstance(trouble, MemoryError):
        return f"out of memory: {trouble}"
    return f"{_kind(trouble)[0]}: {trouble.strerror}{_where(trouble)}"


@contextmanager
def named(path: Path | str, part: Path | str | None = None) -> Iterator[None]:
    """Set the file name of system errors that have none, or one within `part`, to `path`."""
    try:
        yield
    except Exception as error:
        link: BaseException | None = error
        while link is not None:
            if isinstance(link, OSError) and link.errno is not None and _is_part(link.filename, part):
                link.filename, link.filename2 = str(path), None
            link = link.__cause__ or link.__context__
        found = trouble_in(error)
        if isinstance(found, OSError) and found.filename is None:  # raised by safetensors
            found.filename = str(path)
            raise found from error
        raise


def reached(path: Path) -> None:
    """Raise the system fault, if any, that prevents reading an existing file."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise_trouble(error)


def _is_part(name: object, part: Path | str | None) -> bool:
    return name is None or (part is not None and str(name).startswith(str(part)))


def _kind(trouble: OSError | MemoryError) -> tuple[str, str]:
    return _KINDS[trouble.errno or 0] if isinstance(trouble, OSError) else _MEMORY


def _as_trouble(error: BaseException) -> OSError | MemoryError | None:
    if isinstance(error, OSError):
        if error.errno == errno.ENOMEM:
            return MemoryError(str(error))
        return error if error.errno in _KINDS else None
    if isinstance(error, MemoryError):
        return error
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate memory" in text:
        return MemoryError(text.splitlines()[0])
    if (found := _OF_RUST.search(text)) and int(found[1]) in _KINDS:  # raised by safetensors
        return OSError(int(found[1]), os.strerror(int(found[1])))
    return None


def _where(trouble: OSError) -> str:
    if not isinstance(trouble.filename, str):
        return ""
    return f" @ {trouble.filename}{_free(Path(trouble.filename)) if _kind(trouble) is _FULL else ''}"


def _free(path: Path) -> str:
    """Describe the free space, measured at the nearest accessible folder."""
    for folder in path.absolute().parents:
        try:
            return f" ({shutil.disk_usage(folder).free / 1e6:.1f} MB free)"
        except OSError:
            continue
    return ""
