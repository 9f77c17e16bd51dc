"""Local worker processes. A crash ends only the process of the task."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from accomp.core.compute.cores import cores
from accomp.core.engines.attempts import Answer, Attempt, Call, Worker, read
from accomp.core.errors import UserError
from accomp.core.spec.runner import RunnerSpec

GRACE = 30.0
"""Seconds between SIGINT and SIGKILL for a process that is stopped."""


class LocalPool:
    """`runner.workers` processes that share this machine's cores and GPUs evenly."""

    def __init__(self, runner: RunnerSpec, call: Call, fresh: bool):
        """Start the processes. Raises UserError where there are fewer GPUs than the workers request."""
        self._size, self._call, self._fresh = runner.workers or 1, call, fresh
        self._threads = runner.cpus or max(1, cores() // self._size)
        self._devices = shares(runner.gpus, self._size, visible_gpus() if runner.gpus else ())
        self._idle: list[_Process] = []
        self._busy: dict[_Process, Attempt] = {}
        self._free = deque(range(self._size))  # places, each with its share of GPUs

    def has_room(self) -> bool:
        """See Pool."""
        return len(self._busy) < self._size

    def begin(self, attempt: Attempt) -> None:
        """See Pool."""
        process = self._idle.pop() if self._idle else None
        if process is None:
            place = self._free.popleft()
            process = _Process(place, self._call, self._threads, self._devices[place])
        self._busy[process] = attempt
        process.send(attempt.argument)

    def wait(self) -> tuple[Attempt, Answer]:
        """See Pool."""
        process = next(process for process in self._ready(self._busy))
        attempt = self._busy.pop(process)
        answer = process.receive()
        if answer is None or self._fresh:
            self._free.append(process.place)
            died = process.end()
            return attempt, answer or Answer(failure=died)
        self._idle.append(process)
        return attempt, answer

    def close(self) -> None:
        """See Pool. Busy workers get SIGINT, and SIGKILL after GRACE seconds, or at once on a second Ctrl-C."""
        everyone = [*self._idle, *self._busy]
        try:
            for process in self._busy:
                process.signal(signal.SIGINT)
            self._await_rest(time.monotonic() + GRACE)
        finally:
            for process in everyone:
                process.end()
            self._idle, self._busy = [], {}

    def _await_rest(self, until: float) -> None:
        """Wait until every busy process has exited or finished its attempt."""
        working = set(self._busy)
        while working and (ready := self._ready(working, until - time.monotonic())):
            working -= ready

    @staticmethod
    def _ready(processes: Iterable[_Process], seconds: float | None = None) -> set[_Process]:
        """Return the processes that have an answer or have died; at least one where there is no timeout."""
        ends = {end: process for process in processes for end in process.ends}
        return {ends[end] for end in wait(list(ends), seconds if seconds is None else max(0.0, seconds))}  # type: ignore[index]


class _Process:
    """A process that runs attempts, and dies with this one, together with its child processes."""

    def __init__(self, place: int, call: Call, threads: int, devices: str | None):
        context = multiprocessing.get_context("spawn")  # a copy of this process would inherit its threads' locks
        self.place = place
        self._line, theirs = context.Pipe()
        watched, self._alive = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(theirs, watched, call, threads, devices))
        self._process.start()
        theirs.close()
        watched.close()

    @property
    def ends(self) -> Iterable[Connection | int]:
        """Return handles that become ready on an answer or on the death of the process."""
        return self._line, self._process.sentinel

    def send(self, argument: bytes) -> None:
        with suppress(OSError):  # it is dead, which `receive` reports
            self._line.send_bytes(argument)

    def receive(self) -> Answer | None:
        """Return an answer, None where the process has died."""
        try:
            return read(self._line.recv_bytes()) if self._line.poll() else None
        except (EOFError, OSError):
            return None

    def signal(self, number: signal.Signals) -> None:
        """Signal the process and its children."""
        with suppress(ProcessLookupError):
            try:
                os.killpg(self._process.pid or 0, number)
            except ProcessLookupError:  # gone, or not a group of its own yet
                if self._process.is_alive():
                    os.kill(self._process.pid or 0, number)

    def end(self) -> str:
        """Terminate the process and describe its exit."""
        self._line.close()  # an idle one returns
        wait([self._process.sentinel], 1.0)
        self.signal(signal.SIGKILL)
        self._process.join()
        self._alive.close()
        code = self._process.exitcode or 0
        self._process.close()
        return _how(code)


def _how(code: int) -> str:
    if code >= 0:
        return f"its process left with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    why = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
    return f"its process was killed by {name}{why}"


def _work(line: Connection, runner: Connection, call: Call, threads: int, devices: str | None) -> None:
    """Run a worker process: answer requests until the connection closes."""
    os.setpgrp()  # Ctrl-C goes to the runner alone, which signals this process
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a runner in the background ignores it, and its children inherit that
    threading.Thread(target=_die_with, args=(runner,), daemon=True).start()
    worker = Worker(call, threads, devices)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        while True:
            line.send_bytes(worker.attempt(line.recv_bytes()))


def _die_with(runner: Connection) -> None:
    with suppress(EOFError, OSError):
        runner.recv_bytes()  # nothing is ever sent: this ends with the process at the other end
    os.killpg(0, signal.SIGKILL)


def visible_gpus() -> list[str]:
    """List the values of CUDA_VISIBLE_DEVICES for each GPU that this process may use."""
    import torch

    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [name.strip() for name in listed.split(",")][:count] if listed else [str(number) for number in range(count)]


def shares(gpus: float, workers: int, visible: Sequence[str]) -> list[str | None]:
    """Return the value of CUDA_VISIBLE_DEVICES for each worker; None, where they request no GPU, leaves it unchanged.

    Raises UserError where there are not enough GPUs.
    """
    if not gpus:
        return [None] * workers
    a_gpu = int(1 / gpus) if gpus < 1 else 1  # workers that share one
    each = max(1, int(gpus))
    needed = -(-workers // a_gpu) * each
    if needed > len(visible):
        raise UserError(
            f"{workers} workers with {gpus:g} GPU each need {needed} GPUs, this machine has {len(visible)}; fewer "
            f"workers, or a smaller share @ runner.gpus"
        )
    firsts = (worker // a_gpu * each for worker in range(workers))
    return [",".join(visible[first : first + each]) for first in firsts]
