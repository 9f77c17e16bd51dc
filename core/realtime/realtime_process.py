"""Settings of the Python process for threads with real-time deadlines."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_INTERVAL = 0.0005
"""Switch interval of Python's threads in seconds."""


@contextmanager
def realtime_process() -> Iterator[None]:
    """Shorten the thread switch interval and freeze the garbage collector: a full collection stops every thread for
    longer than a block.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)
