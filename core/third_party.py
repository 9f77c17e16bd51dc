"""Code of other packages, run so that it cannot take the process with it.

Code that leaves, hangs or raises anything is an error that can be told, and what it prints goes to stderr, where it
breaks no output.
"""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType

from accomp.core.errors import PluginError

LONGEST = 20.0
"""Seconds that a plugin may take to be imported and to say what it has; it should import nothing heavy."""


@contextmanager
def contained(who: str, *, seconds: float | None = None) -> Iterator[None]:
    """Run a block of the package `who`, at most so long (s), with its standard output turned to stderr.

    Raises PluginError for SystemExit and every other BaseException but KeyboardInterrupt, and for a block that lasts
    too long; other exceptions pass. Only the main thread, where there are timers (POSIX), can be interrupted.
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
    timed = seconds is not None and hasattr(signal, "setitimer")
    if not timed or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_: int, __: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds or 0.0)
    try:
        yield
    except _Late:
        raise PluginError(f"it has not come back within {seconds:g} s; {who} should import nothing heavy") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Aside(io.TextIOBase):
    """Standard output of a package: on stderr, behind the package's name."""

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
    """The time is over. No Exception, so that no handler in the block takes it for one of its own."""
