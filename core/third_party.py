"""Isolation of third-party code, so that it cannot end the process.

Exits, timeouts and exceptions of any class become errors that can be reported. Standard output is redirected to stderr,
so that it does not corrupt the output of a command; that of other threads is not.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

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
    with _aside(who), _interrupted(who, seconds):
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


@contextmanager
def _aside(who: str) -> Iterator[None]:
    """Redirect what this thread writes to standard output to stderr, with the package's name in front."""
    with _INSTALLING:
        now: Any = sys.stdout
        sys.stdout = out = now if isinstance(now, _ByThread) else _ByThread(now)
        out.enter(_Aside(who))
    try:
        yield
    finally:
        with _INSTALLING:
            if out.leave() and sys.stdout is out:
                sys.stdout = out.before


_INSTALLING = threading.Lock()


class _ByThread:
    """Standard output of a process in which some threads are redirected. sys.stdout is one for all threads, so that
    replacing it alone would take in what others write, and two that overlap could leave it replaced for good.

    Attributes:
        before: the stream for threads that are not redirected.
    """

    def __init__(self, before: Any):
        self.before = before
        self._asides: dict[int, list[_Aside]] = {}

    def enter(self, aside: _Aside) -> None:
        """Redirect this thread."""
        self._asides.setdefault(threading.get_ident(), []).append(aside)

    def leave(self) -> bool:
        """End this thread's latest redirection. Returns whether no thread is redirected any more."""
        mine = self._asides[threading.get_ident()]
        mine.pop()
        if not mine:
            del self._asides[threading.get_ident()]
        return not self._asides

    def write(self, text: str) -> int:
        mine = self._asides.get(threading.get_ident())
        return int((mine[-1] if mine else self.before).write(text))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr if threading.get_ident() in self._asides else self.before, name)


class _Aside:
    """Standard output of a package, redirected to stderr with the package's name in front."""

    def __init__(self, who: str):
        self._start = f"{who} prints: "
        self._at_start = True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            sys.stderr.write(f"{self._start if self._at_start else ''}{line}")
            self._at_start = line.endswith("\n")
        return len(text)


class _Late(BaseException):
    """A timeout. It is a BaseException, so that no handler within the block catches it."""
