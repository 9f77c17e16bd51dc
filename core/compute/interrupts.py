"""Signals as a wish: long work ends at the next good place, with everything saved.

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
    """`signal` is the name of the first signal that came, "" while none did."""

    def __init__(self) -> None:
        self.signal = ""


@contextmanager
def stop_wish() -> Iterator[InterruptFlag]:
    """While the block runs, the first of SIGNALS only sets the wish; a second one interrupts at once.

    Whoever was started to ignore SIGHUP (nohup) or SIGQUIT goes on ignoring it. Outside the main thread, where Python
    lets nobody handle signals, nothing is caught.
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
