"""The model thread of a server: all runs tick in it, and it never waits for a client."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from accomp.core.realtime.model_thread import ModelThread
from accomp.core.realtime.realtime_process import realtime_process
from accomp.core.serving.playing.live import LiveSession
from accomp.core.serving.playing.served_run import ServedRun

T = TypeVar("T")
LONGEST_WAIT = 0.5
RELEASE_TIMEOUT = 5.0


class Engine:
    """The thread of the models, and the runs that tick in it.

    Attributes:
        runs: by name; empty until `open` has made them.
        preparing: current startup work, in words; "" once ready.
        failure: error that ended the thread; None while it runs.
        beat: last sign of life of the thread (time.monotonic).
    """

    def __init__(self) -> None:
        self.runs: dict[str, ServedRun] = {}
        self.preparing, self.beat = "the server is starting", time.monotonic()
        self.failure: BaseException | None = None
        self._thread = ModelThread()
        self._todo: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._wake, self._ended = threading.Event(), threading.Event()

    def open(self, prepare: Callable[[Callable[[str], None]], dict[str, ServedRun]]) -> Future[None]:
        """Make the runs in the model's thread, then run them until `close`; the future is done after that.

        prepare: takes a function to report its progress to.
        """
        return self._thread.do(lambda: self._work(prepare))

    @property
    def ready(self) -> bool:
        return not self.preparing and self.failure is None

    @property
    def alive(self) -> bool:
        """Whether the thread runs, or makes the runs."""
        return self.failure is None and (bool(self.preparing) or time.monotonic() - self.beat < 2.0)

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Call `work` between two ticks -> a future of its value or error."""
        future: Future[T] = Future()
        self._todo.put((work, future))
        self._wake.set()
        return future

    def wake(self) -> None:
        """Notify of input, for runs that it drives."""
        self._wake.set()

    def close(self) -> None:
        """Stop the ticks."""
        self._ended.set()
        self._wake.set()

    def find(self, live: LiveSession) -> ServedRun | None:
        """The run in which a session plays or is about to."""
        return next((run for run in self.runs.values() if live in [*run.sessions, *run.waiting]), None)

    async def release(self, live: LiveSession) -> None:
        """End a session on the model's side; afterwards it has no more output. Does not wait for a hung thread."""

        def leave() -> None:
            for run in self.runs.values():
                run.leave(live)

        future = asyncio.wrap_future(self.do(leave))
        for _ in range(round(RELEASE_TIMEOUT / 0.05)):
            if future.done() or not self.alive:
                return
            await asyncio.wait([future], timeout=0.05)

    def _work(self, prepare: Callable[[Callable[[str], None]], dict[str, ServedRun]]) -> None:
        try:
            self.runs = prepare(self._report)
            with realtime_process():
                self.beat, self.preparing = time.monotonic(), ""
                while not self._ended.is_set():
                    self._round()
        except BaseException as error:
            self.failure = error
            raise

    def _report(self, text: str) -> None:
        self.preparing = text

    def _round(self) -> None:
        self._wake.clear()
        self._run_queue()
        now = self.beat = time.monotonic()
        wait = LONGEST_WAIT
        for run in self.runs.values():
            left = run.wait(now)
            if left <= 0:
                if run.sessions:
                    run.tick(now)
                else:
                    run.idle(now)
                left = 0.0
            wait = min(wait, left)
        if wait > 0:
            self._wake.wait(wait)

    def _run_queue(self) -> None:
        while True:
            try:
                work, future = self._todo.get_nowait()
            except queue.Empty:
                return
            try:
                future.set_result(work())
            except BaseException as error:  # raised again by result()
                future.set_exception(error)
