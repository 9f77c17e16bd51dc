"""The model's side of a server: one thread in which all stages tick, and nothing ever waits for a client."""

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
from accomp.core.serving.playing.stage import Stage

T = TypeVar("T")
LONGEST_WAIT = 0.5
LONGEST_LETTING_GO = 5.0


class Engine:
    """The thread of the models, and the stages that tick in it.

    Attributes:
        stages: by name; empty until `open` has made them.
        preparing: what is being done before the first tick, in words; "" once ready.
        failure: what ended the thread; None while it works.
        beat: when the thread was last seen at work (time.monotonic).
    """

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self.preparing, self.beat = "the server begins", time.monotonic()
        self.failure: BaseException | None = None
        self._thread = ModelThread()
        self._todo: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._wake, self._ended = threading.Event(), threading.Event()

    def open(self, prepare: Callable[[Callable[[str], None]], dict[str, Stage]]) -> Future[None]:
        """Make the stages in the model's thread, then let them tick until `close`; done when that has happened.

        prepare: is given a function to call with what it does, in words.
        """
        return self._thread.do(lambda: self._work(prepare))

    @property
    def ready(self) -> bool:
        return not self.preparing and self.failure is None

    @property
    def alive(self) -> bool:
        """Whether the thread works, or makes the stages."""
        return self.failure is None and (bool(self.preparing) or time.monotonic() - self.beat < 2.0)

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Done between two ticks; its value, or what it raises."""
        future: Future[T] = Future()
        self._todo.put((work, future))
        self._wake.set()
        return future

    def wake(self) -> None:
        """Input has come: for stages that it drives."""
        self._wake.set()

    def close(self) -> None:
        """No more ticks."""
        self._ended.set()
        self._wake.set()

    def find(self, live: LiveSession) -> Stage | None:
        """Where a session plays or is about to."""
        return next((stage for stage in self.stages.values() if live in [*stage.sessions, *stage.waiting]), None)

    async def let_go(self, live: LiveSession) -> None:
        """End a session on the model's side: after this nothing comes of it any more. Waits for no broken thread."""

        def leave() -> None:
            for stage in self.stages.values():
                stage.leave(live)

        future = asyncio.wrap_future(self.do(leave))
        for _ in range(round(LONGEST_LETTING_GO / 0.05)):
            if future.done() or not self.alive:
                return
            await asyncio.wait([future], timeout=0.05)

    def _work(self, prepare: Callable[[Callable[[str], None]], dict[str, Stage]]) -> None:
        try:
            self.stages = prepare(self._say)
            with realtime_process():
                self.beat, self.preparing = time.monotonic(), ""
                while not self._ended.is_set():
                    self._round()
        except BaseException as error:
            self.failure = error
            raise

    def _say(self, doing: str) -> None:
        self.preparing = doing

    def _round(self) -> None:
        self._wake.clear()
        self._asked()
        now = self.beat = time.monotonic()
        wait = LONGEST_WAIT
        for stage in self.stages.values():
            left = stage.wait(now)
            if left <= 0:
                if stage.sessions:
                    stage.tick(now)
                else:
                    stage.idle(now)
                left = 0.0
            wait = min(wait, left)
        if wait > 0:
            self._wake.wait(wait)

    def _asked(self) -> None:
        while True:
            try:
                work, future = self._todo.get_nowait()
            except queue.Empty:
                return
            try:
                future.set_result(work())
            except BaseException as error:  # raised again where the result is asked for
                future.set_exception(error)
