"""Isolation of third-party code, so that it cannot end the process.

Exits, timeouts and exceptions of any class become errors that can be reported. Standard output is redirected to stderr,
so that it does not corrupt the output of a command.
"""

from __future__ import annotations

import io
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType

from accomp.core.errors import PluginError

LONGEST = 20.0
"""Timeout (s) of a plugin's import and of its `accomp_components`; it should import nothing heavy."""
AT_WORK, EXTENSIONS = 0.2, 5
"""Processor time (s) within a timeout that extends it once more, on a machine that is busy or has a slow disk, and how
often it is extended at most: an import broken off halfway may leave a library unusable in this process."""


@contextmanager
def contained(who: str, *, seconds: float | None = None) -> Iterator[None]:
    """Run a block of the package `who`, with an optional timeout in seconds and its standard output redirected to
    stderr. While the process computes, the timeout is extended EXTENSIONS times.

    Raises PluginError for SystemExit and every other BaseException but KeyboardInterrupt, and for a timeout; other
    exceptions pass. The timeout works in the main thread and where there are interval timers (POSIX) only.
    """
    with redirect_stdout(_Aside(who)), _interrupted(who, seconds):
        try:
            yield
        except (Exception, KeyboardInterrupt, _Late):
            raise
        except SystemExit as error:
            raise PluginError(f"it leaves the process (SystemExit: {error.code})") from error
        except BaseException as error:
            raise PluginError(f"it raises {type(error).__name__}: {error}") from error


@contextmanager
def _interrupted(who: str, seconds: float | None) -> Iterator[None]:
    if seconds is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    alarms, worked = 0, time.process_time()

    def on_alarm(_: int, __: FrameType | None) -> None:
        nonlocal alarms, worked
        now = time.process_time()
        alarms, idle, worked = alarms + 1, now - worked < AT_WORK, now
        if idle or alarms > EXTENSIONS:
            raise _Late

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    except _Late:
        waited = seconds * alarms
        raise PluginError(f"it has not come back within {waited:g} s; {who} should import nothing heavy") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Aside(io.TextIOBase):
    """Standard output of a package, redirected to stderr with the package's name in front."""

    def __init__(self, who: str):
        self._start = f"{who} prints: "
        self._at_start = True

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            sys.stderr.write(f"{self._start if self._at_start else ''}{line}")
            self._at_start = line.endswith("\n")
        return len(text)


class _Late(BaseException):
    """A timeout. It is a BaseException, so that no handler within the block catches it."""
