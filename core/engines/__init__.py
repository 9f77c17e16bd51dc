"""Tasks done by other processes, here or on other machines: one way to call, an engine of the spec's choice behind it.

    with run_tasks(spec.runner, (Task(name, argument) for ...), function) as outcomes:
        for outcome in outcomes:            # as they finish, in any order
            outcome.task.name, outcome.value, outcome.failure

What can be relied on, whatever the engine:

- `function` and arguments are pickled, so the function is one of a module (or an object of a class with `__call__`),
  and large things go by their path. Each worker unpickles the function once and keeps it: an object may build what it
  needs at its first call and have it at the next. Workers are in the folder that the runner is in, so that relative
  paths mean the same; another machine needs that folder, and the same accomp.
- Tasks are taken from their iterable when there is room: no more than the workers, and one, are under way, counting the
  outcome that the caller holds.
- A None among the tasks says that there is none now: the next one is asked for when an outcome has been looked at,
  which may be what it waited for. With nothing under way, a None is the end.
- An exception is a failure of its task; so is the death of the process, by a signal, for lack of memory, or with its
  machine. It is tried again `runner.retries` times, after a warning, elsewhere than in the process that died. A
  UserError is not tried again, since it would come again.
- Leaving the block ends all workers and what they have started, also when an exception or Ctrl-C leaves it. On this
  machine they get SIGINT first and GRACE seconds, so that a training saves itself; Ctrl-C again ends them at once. When
  the runner itself is killed, local and Ray workers die with it. Jobs in Slurm's queue are cancelled when the block is
  left, but outlive a killed runner.
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
"""Engine -> its workers, and the library that its extra brings."""


class Pool(Protocol):
    """The workers of one engine: `cls(runner, call, fresh)`.

    Raises UserError where the machine or the cluster lacks what a task asks for.
    """

    def __init__(self, runner: RunnerSpec, call: Call, fresh: bool): ...

    def has_room(self) -> bool:
        """Whether another attempt can be begun now."""

    def begin(self, attempt: Attempt) -> None:
        """Have an attempt made by a worker that is free."""

    def wait(self) -> tuple[Attempt, Answer]:
        """The next attempt that ends; called while there are any under way."""

    def close(self) -> None:
        """End all workers; those that are at work are stopped."""


@contextmanager
def run_tasks(
    runner: RunnerSpec,
    tasks: Iterable[Task | None],
    function: Callable[[Any], Any],
    *,
    started: Callable[[Task], None] = lambda task: None,
    fresh: bool = False,
) -> Iterator[Iterator[Outcome]]:
    """The outcomes of all tasks as they finish; see above. `started` is called when a worker gets a task.

    `fresh`: each attempt has a process of its own, so that nothing is left over from the one before.

    Raises UserError where the engine lacks its library, or a task asks for more than there is.
    """
    pool = _pool(runner.engine)(runner, Call.of(function), fresh)
    try:
        yield _outcomes(pool, TaskQueue(tasks, runner.retries, warn), started)
    finally:
        pool.close()


def check_engine(engine: str) -> None:
    """Raises UserError where the engine lacks its library."""
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
        fill()  # so that no worker is idle while the caller looks at the outcome
        if outcome:
            yield outcome
            fill()  # what waited for this outcome
