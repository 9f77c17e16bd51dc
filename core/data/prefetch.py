"""Prefetching: a thread reads the next batches during the training step."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from queue import Full, Queue
from typing import Any, NamedTuple, Self

from accomp.core.data.loader import ClipLoader
from accomp.core.types import CodeBatch

DEPTH = 2
"""Largest number of finished batches in the queue, besides the one being read."""


class _Read(NamedTuple):
    """A batch and the loader's state after it, or the exception that reading it raised."""

    batch: CodeBatch | None
    state: dict[str, Any]
    error: Exception | None = None


class PrefetchLoader:
    """A ClipLoader whose batches are read ahead by a thread, in the same order.

    Its state is that of the consumed batches, not of those read ahead, so that a run that stops loses none. An
    exception in reading a batch is raised when that batch is requested. The thread begins with the first batch; use the
    loader as a context manager to end it.

    Attributes:
        waited: seconds that the consumer has waited for batches.
    """

    def __init__(self, loader: ClipLoader):
        """Take over `loader`, which only the thread may read from the first batch on."""
        self.waited = 0.0
        self._loader, self._state = loader, loader.state_dict()
        self._ready: Queue[_Read] = Queue(DEPTH)
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread, after the batch that it is reading."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> CodeBatch:
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="clips ahead", daemon=True)
            self._thread.start()
        began = time.perf_counter()
        read = self._ready.get()
        self.waited += time.perf_counter() - began
        if read.error is not None:
            raise read.error
        assert read.batch is not None
        self._state = read.state
        return read.batch

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loader after the last consumed batch."""
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; before the first batch only. Raises DataError as ClipLoader.load_state_dict."""
        assert self._thread is None, "the thread has read on already"
        self._loader.load_state_dict(state)
        self._state = self._loader.state_dict()

    def _read(self) -> None:
        error = None
        while error is None and not self._ended.is_set():
            try:
                read = _Read(next(self._loader), self._loader.state_dict())
            except Exception as problem:  # raised where the batch is requested
                error = problem
                read = _Read(None, {}, problem)
            self._hand_over(read)

    def _hand_over(self, read: _Read) -> None:
        while not self._ended.is_set():
            try:
                return self._ready.put(read, timeout=0.1)
            except Full:
                continue
