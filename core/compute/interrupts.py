"""Deferred signals: long work ends at the next safe point, with everything saved.

SIGINT is Ctrl-C, SIGQUIT Ctrl-\\, SIGHUP a terminal that closes; SIGTERM comes from batch systems.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class InterruptFlag:
    """Flag of a pending interruption: `signal` is the name of the first signal that arrived, "" while none did."""

    def __init__(self) -> None:
        self.signal = ""


@contextmanager
def stop_wish() -> Iterator[InterruptFlag]:
    """Defer the first of SIGNALS within the block by setting the flag; a second one interrupts at once.

    Signals that the process was started to ignore, SIGHUP (nohup) or SIGQUIT, stay ignored. Outside the main thread,
    where Python allows no signal handlers, none is installed.
    """
    wish = InterruptFlag()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return

    def note(number: int, frame: FrameType | None) -> None:
        if wish.signal:
            raise KeyboardInterrupt
        wish.signal = signal.Signals(number).name

    always = (signal.SIGINT, signal.SIGTERM)
    heeded = [one for one in SIGNALS if one in always or signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
