"""Ctrl-C and SIGTERM as a wish: long work ends at the next good place, with everything saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopWish:
    """`signal` is the name of the first signal that came, "" while none did."""

    def __init__(self) -> None:
        self.signal = ""


@contextmanager
def stop_wish() -> Iterator[StopWish]:
    """While the block runs, the first SIGINT or SIGTERM only sets the wish; a second one interrupts at once.

    Outside the main thread, where Python lets nobody handle signals, nothing is caught.
    """
    wish = StopWish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return

    def note(number: int, frame: FrameType | None) -> None:
        if wish.signal:
            raise KeyboardInterrupt
        wish.signal = signal.Signals(number).name

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
