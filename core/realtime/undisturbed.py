"""A process whose threads play by the clock, and how none of Python's own habits holds them up."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TURN = 0.0005
"""Seconds after which a thread of Python's hands over to another that waits."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Python's threads take short turns, and its garbage collector passes over what there is by now: looking through it
    all stops every thread, for longer than a block lasts."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)
