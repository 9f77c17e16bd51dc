"""Functions for workers in test_engines*.py: a worker imports them from here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from accomp.core.errors import DataError, UserError


def square(number: int) -> int:
    return number * number


def odd_only(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"{number} is even")
    return number


def wrong_input(number: int) -> int:
    raise DataError(f"no such song {number}", "and another line")


def die(number: int) -> int:
    """Tasks below 0 take their process down, by the signal of that number."""
    if number < 0:
        os.kill(os.getpid(), -number)
        time.sleep(60)
    return number


def count_then_die(path: str) -> int:
    """Dies at its first two calls, over all processes; the number of the call."""
    with Path(path).open("a") as file:
        file.write("x")
    calls = len(Path(path).read_text())
    if calls <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return calls


def exit_code(code: int) -> None:
    sys.exit(code)


def surroundings(_: Any) -> tuple[int, str | None, str | None]:
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES")


def unpicklable(_: Any) -> Any:
    return lambda: 0


class Unreadable:
    def __reduce__(self):
        return bool, ("too", "many")


def unreadable(_: Any) -> Any:
    return Unreadable()


class Counting:
    """Counts its calls in one worker: what is built once is kept."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: Any) -> tuple[int, int]:
        self.calls += 1
        return os.getpid(), self.calls


class CannotStart:
    def __reduce__(self):
        return cannot_start, ()


def cannot_start() -> None:
    raise UserError("the weights are missing")


def start_child_and_sleep(path: str) -> None:
    """Starts a process, writes both numbers, and waits; writes again when it is interrupted."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(f"{os.getpid()} {child.pid}")
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        Path(path + ".saved").write_text("saved")
        raise
