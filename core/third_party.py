"""Isolation of third-party code, so that it cannot end the process.

Exits, timeouts and exceptions of any class become errors that can be reported. Standard output is redirected to stderr,
so that it does not corrupt the output of a command.
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
"""Timeout (s) of a plugin's import and of its `accomp_components`; it should import nothing heavy."""


@contextmanager
def contained(who: str, *, seconds: float | None = None) -> Iterator[None]:
    """Run a block of the package `who`, with an optional timeout in seconds and its standard output redirected to
    stderr.

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
    timed = seconds is not None and hasattr(signal, "setitimer")
    if not timed or threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_alarm(_: int, __: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds or 0.0)
    try:
        yield
    except _Late:
        raise PluginError(f"it has not come back within {seconds:g} s; {who} should import nothing heavy") from None
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
