"""Attempts at tasks: messages between runner and workers, retries, and the worker's loop."""

from __future__ import annotations

import os
import pickle
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from attrs import evolve, field, frozen

from accomp.core.errors import UserError
from accomp.core.trouble import trouble_in
from accomp.core.trouble import words as trouble_words


@frozen
class Task:
    """A unit of work: `name` for messages, `argument` for the function; picklable and small."""

    name: str
    argument: Any = field(repr=False)


@frozen
class Outcome:
    """The result of a task.

    Attributes:
        value: return value of the function.
        failure: one line, the reason why there is no value; "" where there is one.
        trace: traceback of the failure, where it has one.
        error: set where the input was invalid; such a task is not tried again.
        attempts: number of attempts.
        seconds: duration of the last one.
    """

    task: Task
    value: Any = field(default=None, repr=False)
    failure: str = ""
    trace: str = field(default="", repr=False)
    error: UserError | None = None
    attempts: int = 1
    seconds: float = 0.0


@frozen
class Answer:
    """A worker's message about an attempt: the fields of Outcome."""

    value: Any = field(default=None, repr=False)
    failure: str = ""
    trace: str = field(default="", repr=False)
    error: UserError | None = None
    seconds: float = 0.0


@frozen
class Attempt:
    """Attempt `number` at a task, counted from 1."""

    task: Task
    number: int = 1

    @property
    def argument(self) -> bytes:
        """The task's argument, pickled."""
        return pickle.dumps(self.task.argument)


class TaskQueue:
    """Queue of tasks and retries. Tasks are taken from their iterator when there is room for them."""

    def __init__(self, tasks: Iterable[Task | None], retries: int, report: Callable[[str], None]):
        self._tasks, self._retries, self._report = iter(tasks), retries, report
        self._again: list[Attempt] = []

    def next(self) -> Attempt | None:
        """Return the next attempt, None where there is none at present."""
        if self._again:
            return self._again.pop(0)
        task = next(self._tasks, None)
        return None if task is None else Attempt(task)

    def settle(self, attempt: Attempt, answer: Answer) -> Outcome | None:
        """Return the task's outcome, None where it will be tried again."""
        if answer.failure and answer.error is None and attempt.number <= self._retries:
            self._again.append(evolve(attempt, number=attempt.number + 1))
            self._report(f"{attempt.task.name}: {answer.failure}; trying again ({attempt.number} of {self._retries})")
            return None
        return Outcome(
            attempt.task, answer.value, answer.failure, answer.trace, answer.error, attempt.number, answer.seconds
        )


@frozen
class Call:
    """A function for workers: pickled, with its working directory and module path."""

    function: bytes = field(repr=False)
    folder: str
    path: tuple[str, ...]

    @classmethod
    def of(cls, function: Callable[[Any], Any]) -> Call:
        """Create a call in this process's working directory."""
        return cls(pickle.dumps(function), os.getcwd(), tuple(sys.path))

    def load(self) -> Callable[[Any], Any]:
        """Load the function. Raises UserError where this machine does not have the directory."""
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise UserError(
                f"{platform.node()} has no folder {self.folder} ({error.strerror}), where the command was given; run "
                f"it in a folder that all machines share"
            ) from error
        sys.path.extend(folder for folder in self.path if folder not in sys.path)
        function = pickle.loads(self.function)
        assert callable(function)
        return function


class Worker:
    """The worker's side: runs one attempt after another with the same copy of the function.

    `threads`: CPU threads of libraries. `devices`: visible GPUs; None leaves the environment unchanged.
    """

    def __init__(self, call: Call, threads: int, devices: str | None = None):
        self._call = call
        self._function: Callable[[Any], Any] | None = None
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
            os.environ[name] = str(threads)
        if "torch" in sys.modules:  # torch is imported already, so the environment has no effect
            sys.modules["torch"].set_num_threads(threads)
        if devices is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices

    def ready(self) -> None:
        """Return once the worker exists."""

    def attempt(self, argument: bytes) -> bytes:
        """Run an attempt and return the answer, pickled. Exceptions become part of it, except for KeyboardInterrupt."""
        started = time.monotonic()
        try:
            if self._function is None:
                self._function = self._call.load()
            value = self._function(pickle.loads(argument))
            return pickle.dumps(Answer(value, seconds=time.monotonic() - started), protocol=5)
        except (Exception, SystemExit) as error:
            wrong = error if isinstance(error, UserError) else None
            trouble = trouble_in(error)
            words = "; ".join(wrong.problems) if wrong else f"{type(error).__name__}: {error}".rstrip(": ")
            words = trouble_words(trouble) if trouble is not None else words
            trace = "".join(traceback.format_exception(error))
            return pickle.dumps(Answer(None, words, trace, wrong, time.monotonic() - started))


def read(answer: bytes) -> Answer:
    """Unpickle a worker's answer."""
    try:
        found = pickle.loads(answer)
    except Exception as error:
        return Answer(failure=f"its answer cannot be read: {type(error).__name__}: {error}")
    assert isinstance(found, Answer)
    return found
