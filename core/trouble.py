"""The machine's trouble, which is no result: a full disk, a right that is missing, memory that ran out.

Whoever notes down that some work has failed asks here first, and lets such an error pass, so that the command ends and
the same one goes on later. This is the one place that knows which errors these are, and what is said of them.
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
"""errno -> what it is, and what to do."""

_OF_RUST = re.compile(r"\(os error (\d+)\)")


def trouble_in(error: BaseException | None) -> OSError | MemoryError | None:
    """The machine's trouble that lies behind an error, whatever was made of it on the way; None where there is none.

    A UserError that was made of a missing right is no trouble: whoever raised it knows that the place was ill chosen.
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
    """Raises the machine's trouble where it lies behind `error`."""
    if (found := trouble_in(error)) is not None:
        raise found from (None if found is error else error)


def words(trouble: OSError | MemoryError) -> str:
    """What happened, at which file, how much room there is, that what is done is kept, and what to do."""
    return f"{fault(trouble)}; what is done is kept; {_kind(trouble)[1]} and run the same command again to go on"


def fault(trouble: OSError | MemoryError) -> str:
    """What happened, at which file, how much room there is."""
    if isinstance(trouble, MemoryError):
        return f"out of memory: {trouble}"
    return f"{_kind(trouble)[0]}: {trouble.strerror}{_where(trouble)}"


@contextmanager
def named(path: Path | str, part: Path | str | None = None) -> Iterator[None]:
    """Errors of the system that name no file get the name of `path`, and those that name one within `part`."""
    try:
        yield
    except Exception as error:
        link: BaseException | None = error
        while link is not None:
            if isinstance(link, OSError) and link.errno is not None and _is_part(link.filename, part):
                link.filename, link.filename2 = str(path), None
            link = link.__cause__ or link.__context__
        found = trouble_in(error)
        if isinstance(found, OSError) and found.filename is None:  # what safetensors said
            found.filename = str(path)
            raise found from error
        raise


def reached(path: Path) -> None:
    """Raises the machine's trouble where it is why a file that is there cannot be read."""
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
    if (found := _OF_RUST.search(text)) and int(found[1]) in _KINDS:  # what safetensors says
        return OSError(int(found[1]), os.strerror(int(found[1])))
    return None


def _where(trouble: OSError) -> str:
    if not isinstance(trouble.filename, str):
        return ""
    return f" @ {trouble.filename}{_free(Path(trouble.filename)) if _kind(trouble) is _FULL else ''}"


def _free(path: Path) -> str:
    """How much room there is, by the nearest folder that can be asked."""
    for folder in path.absolute().parents:
        try:
            return f" ({shutil.disk_usage(folder).free / 1e6:.1f} MB free)"
        except OSError:
            continue
    return ""
