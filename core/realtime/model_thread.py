"""One thread for all computation of a live model: code compiled in a thread may be valid in that thread only."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class ModelThread:
    """Runs functions one after the other. A daemon: it does not keep the process from ending."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Queue a function -> its future result or error."""
        future: Future[T] = Future()
        self._todo.put((work, future))
        return future

    def _work(self) -> None:
        while True:
            work, future = self._todo.get()
            try:
                future.set_result(work())
            except BaseException as error:  # raised again by result()
                future.set_exception(error)
