"""A machine that refuses: the n-th change of what lies below a folder fails, or kills the process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHANGES = {"os.mkdir", "os.rename", "os.link", "os.truncate"}
"""What is no change here: removing, which needs no room, and is how a mess is cleared away."""


class Counter:
    """Changes so far; what `act` does comes before that of number `at`, with `for_good` before all later ones."""

    def __init__(self, folder: Path, at: int, act: Callable[[str], None], *, for_good: bool):
        self.folder, self.at, self.act, self.for_good, self.count = str(folder), at, act, for_good, 0

    def change(self, path: str) -> None:
        now = self.count
        self.count += 1
        if now == self.at or (self.for_good and now > self.at):
            self.act(path)


_active: list[Counter] = []
_hooked: list[bool] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if not _active:
        return
    flags = arguments[2] if event == "open" else 0
    writing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if event in CHANGES or writing:
        paths = (os.path.abspath(one) for one in arguments[:2] if isinstance(one, str | os.PathLike))
        path = next((str(one) for one in paths if str(one).startswith(_active[0].folder)), None)
        if path is not None:
            _active[0].change(path)


@contextmanager
def before_change(folder: Path, at: int, act: Callable[[str], None], *, for_good: bool = False) -> Iterator[Counter]:
    """While the block runs, `act(path)` comes before the change of number `at` (0 is the first) below `folder`."""
    if not _hooked:
        sys.addaudithook(_watch)
        _hooked.append(True)
    counter = Counter(folder, at, act, for_good=for_good)
    _active.append(counter)
    try:
        yield counter
    finally:
        _active.clear()


def refuse(number: int) -> Callable[[str], None]:
    """The system says this errno."""

    def act(path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    return act


def die(path: str) -> None:
    """As by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)
