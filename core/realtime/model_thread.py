"""One thread for all that a model does live: what is compiled in a thread may be of use in that one only."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class ModelThread:
    """Does what it is given, one after the other. A thread that hangs does not keep the process from ending."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Its value or what it raises, once all given before is done."""
        future: Future[T] = Future()
        self._todo.put((work, future))
        return future

    def _work(self) -> None:
        while True:
            work, future = self._todo.get()
            try:
                future.set_result(work())
            except BaseException as error:  # raised again where the result is asked for
                future.set_exception(error)
