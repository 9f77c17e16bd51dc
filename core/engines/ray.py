"""Workers of a Ray cluster, or of Ray on this machine alone. Every worker is an actor with a copy of the function.

Scheduling is done here, not by Ray: an attempt is given to an actor that has really started, so that workers without
room in the cluster delay nothing.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from accomp.core.compute.cores import cores
from accomp.core.console import warn
from accomp.core.engines.attempts import Answer, Attempt, Call, Worker, read
from accomp.core.errors import UserError, WorkError
from accomp.core.spec.runner import RunnerSpec

PATIENCE = 60.0
"""Seconds without any running worker after which the wait for the cluster is announced."""


class RayPool:
    """As many actors as `runner.workers` says, or as fit into the cluster."""

    def __init__(self, runner: RunnerSpec, call: Call, fresh: bool):
        """Connect to a cluster, or start Ray here.

        Raises UserError where there is no such cluster, or no room for a task, WorkError where Ray does not start.
        """
        import ray

        self._ray = ray
        self._cpus, self._gpus = runner.cpus or 1, runner.gpus
        self._call, self._fresh = call, fresh
        self._starting: dict[Any, Any] = {}  # future of its start -> actor
        self._working: dict[Any, tuple[Any, Attempt]] = {}  # future of the answer -> actor, attempt
        self._idle: list[Any] = []
        self._waiting: deque[Attempt] = deque()  # for an actor
        self._ours = not self._ray.is_initialized()
        if self._ours:
            connect(runner.ray.address)
        try:
            self._size = runner.workers or self._fitting()
            self._check_room(refuse=self._ours and not runner.ray.address)
        except BaseException:
            self.close()
            raise

    def has_room(self) -> bool:
        """See Pool."""
        return len(self._working) + len(self._waiting) < self._size

    def begin(self, attempt: Attempt) -> None:
        """See Pool."""
        self._waiting.append(attempt)
        self._hand_out()

    def wait(self) -> tuple[Attempt, Answer]:
        """See Pool."""
        announced = False
        while True:
            self._hand_out()
            ready, _ = self._ray.wait([*self._starting, *self._working], num_returns=1, timeout=PATIENCE)
            if not ready:
                if not self._working and not announced:
                    warn(f"the Ray cluster has no room yet for a worker with {self._asks()}; waiting for it")
                    announced = True
                continue
            (first,) = ready
            if first in self._working:
                return self._answer(first)
            actor = self._starting.pop(first)
            try:
                self._ray.get(first)
                self._idle.append(actor)
            except self._ray.exceptions.RayError as error:
                if self._waiting:
                    return self._waiting.popleft(), Answer(failure=f"no worker could be started: {_first_line(error)}")

    def _hand_out(self) -> None:
        """Give attempts to idle actors, and start as many actors as there are attempts without one."""
        while self._waiting and self._idle:
            actor, attempt = self._idle.pop(), self._waiting.popleft()
            self._working[actor.attempt.remote(attempt.argument)] = actor, attempt
        while len(self._starting) < len(self._waiting):
            options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_restarts": 0}
            worker: Any = self._ray.remote(Worker)
            actor = worker.options(**options).remote(self._call, self._cpus)
            self._starting[actor.ready.remote()] = actor

    def _answer(self, which: Any) -> tuple[Attempt, Answer]:
        actor, attempt = self._working.pop(which)
        try:
            answer = read(self._ray.get(which))
        except self._ray.exceptions.RayError as error:
            return attempt, Answer(failure=f"its worker died: {_first_line(error)}", trace=str(error))
        if self._fresh:
            self._ray.kill(actor)
        else:
            self._idle.append(actor)
        return attempt, answer

    def close(self) -> None:
        """See Pool. Actors get no signal on which they could save their state."""
        actors = [*self._starting.values(), *self._idle, *(actor for actor, _ in self._working.values())]
        for actor in actors:
            self._ray.kill(actor)
        if self._ours:
            self._ray.shutdown()

    def _fitting(self) -> int:
        """Count the workers that the cluster, in its present size, can run at once."""
        has = self._ray.cluster_resources()
        fitting = int(has.get("CPU", 0) // self._cpus)
        if self._gpus:
            fitting = min(fitting, int(has.get("GPU", 0) / self._gpus))
        return max(1, fitting)

    def _check_room(self, *, refuse: bool) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= self._cpus and node.get("GPU", 0) >= self._gpus for node in nodes):
            return
        text = f"no machine of this Ray cluster has room for a worker with {self._asks()}"
        if refuse:
            has = nodes[0]
            raise UserError(f"{text}; there are {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs @ runner")
        warn(f"{text}; waiting for one to join it")

    def _asks(self) -> str:
        return f"runner.cpus = {self._cpus}, runner.gpus = {self._gpus:g}"


def connect(address: str, key: str = "runner.ray.address") -> None:
    """Connect to the Ray cluster at an address ("auto": the one of this machine), or start Ray here where it is "".

    key: what the user gives the address by. Raises UserError where there is no such cluster, WorkError where Ray does
    not start.
    """
    if not address:
        start_here(key)
        return
    import ray

    try:
        ray.init(address, log_to_driver=True, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(
            f"Ray cannot be reached: {_first_line(error)}; start it there (ray start --head), or leave the address out "
            f"to start it on this machine @ {key} = {address!r}"
        ) from error


def start_here(key: str = "runner.ray.address") -> None:
    """Start Ray on this machine alone; it ends with this process. Raises WorkError."""
    import ray

    try:
        ray.init("local", num_cpus=cores(), include_dashboard=False, log_to_driver=True, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises Exception itself where one of its processes is late
        raise WorkError(
            f"Ray does not start on this machine: {_first_line(error)} It gives its own processes 15 s; where that is "
            f'too little, start it apart (ray start --head) and set {key} = "auto"'
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
