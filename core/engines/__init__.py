"""Execution of tasks in other processes, here or on other machines: one interface to the engine that the spec selects.

    with run_tasks(spec.runner, (Task(name, argument) for ...), function) as outcomes:
        for outcome in outcomes:            # as they finish, in any order
            outcome.task.name, outcome.value, outcome.failure

Guarantees of every engine:

- `function` and arguments are pickled, so the function is one of a module (or an object of a class with `__call__`),
  and large data is passed by path. Each worker unpickles the function once and keeps it: an object may build its
  resources at its first call and reuse them. Workers run in the folder of the runner, so that relative paths mean the
  same; another machine needs that folder, and the same accomp.
- Tasks are taken from their iterable when there is room: at most the number of workers and one are under way, counting
  the outcome that the caller holds.
- A None among the tasks means that none is available now: the next one is requested after the caller has taken an
  outcome, which the task may depend on. With nothing under way, a None is the end.
- An exception is a failure of its task; so is the death of the process, by a signal, for lack of memory, or with its
  machine. The task is tried again `runner.retries` times, after a warning, in another process than the dead one. A
  UserError is not tried again, since it would recur.
- Leaving the block ends all workers and their child processes, also on an exception or Ctrl-C. On this machine they get
  SIGINT first and GRACE seconds, so that a training saves its state; a second Ctrl-C ends them at once. When the runner
  itself is killed, local and Ray workers die with it. Jobs in Slurm's queue are cancelled when the block is left, but
  outlive a killed runner.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from accomp.core.console import warn
from accomp.core.engines.attempts import Answer, Attempt, Call, Outcome, Task, TaskQueue
from accomp.core.errors import UserError
from accomp.core.spec.runner import RunnerSpec

__all__ = ["Outcome", "Task", "check_engine", "run_tasks"]

POOLS = {
    "local": ("accomp.core.engines.local:LocalPool", None),
    "ray": ("accomp.core.engines.ray:RayPool", "ray"),
    "slurm": ("accomp.core.engines.slurm:SlurmPool", "submitit"),
}
"""Engine -> class of its workers, and the library that its extra installs."""


class Pool(Protocol):
    """The workers of one engine: `cls(runner, call, fresh)`.

    Raises UserError where the machine or the cluster lacks a resource that a task requests.
    """

    def __init__(self, runner: RunnerSpec, call: Call, fresh: bool): ...

    def has_room(self) -> bool:
        """Test whether another attempt can begin now."""

    def begin(self, attempt: Attempt) -> None:
        """Start an attempt on a free worker."""

    def wait(self) -> tuple[Attempt, Answer]:
        """Wait for the next attempt that ends; called only while there are attempts under way."""

    def close(self) -> None:
        """End all workers, also busy ones."""


@contextmanager
def run_tasks(
    runner: RunnerSpec,
    tasks: Iterable[Task | None],
    function: Callable[[Any], Any],
    *,
    started: Callable[[Task], None] = lambda task: None,
    fresh: bool = False,
) -> Iterator[Iterator[Outcome]]:
    """Yield the outcomes of all tasks as they finish; see above. `started` is called when a worker gets a task.

    `fresh`: run each attempt in a new process, so that no state is left over.

    Raises UserError where the engine lacks its library, or a task requests more resources than there are.
    """
    pool = _pool(runner.engine)(runner, Call.of(function), fresh)
    try:
        yield _outcomes(pool, TaskQueue(tasks, runner.retries, warn), started)
    finally:
        pool.close()


def check_engine(engine: str) -> None:
    """Raise UserError where the engine lacks its library."""
    _pool(engine)


def _pool(engine: str) -> Callable[[RunnerSpec, Call, bool], Pool]:
    target, library = POOLS[engine]
    if library:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise UserError(
                f"engine {engine!r} needs the library {library!r} ({error}); run: pip install 'accomp[{engine}]' "
                f"@ runner.engine"
            ) from error
    module, _, name = target.partition(":")
    found: Callable[[RunnerSpec, Call, bool], Pool] = getattr(importlib.import_module(module), name)
    return found


def _outcomes(pool: Pool, schedule: TaskQueue, started: Callable[[Task], None]) -> Iterator[Outcome]:
    under_way = 0

    def fill() -> None:
        nonlocal under_way
        while pool.has_room() and (attempt := schedule.next()) is not None:
            pool.begin(attempt)
            under_way += 1
            started(attempt.task)

    fill()
    while under_way:
        attempt, answer = pool.wait()
        under_way -= 1
        outcome = schedule.settle(attempt, answer)
        fill()  # keeps the workers busy while the caller handles the outcome
        if outcome:
            yield outcome
            fill()  # tasks that depended on this outcome
