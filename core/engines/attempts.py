"""One attempt at a task: what the runner sends to a worker, what the worker does with it, and what it answers."""

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
    """Something to be done: `name` for messages, `argument` for the function that does it; picklable and small."""

    name: str
    argument: Any = field(repr=False)


@frozen
class Outcome:
    """What became of a task.

    Attributes:
        value: what the function returned.
        failure: in one line, why there is no value; "" where there is one.
        trace: the traceback of that failure, where it had one.
        error: where the input was wrong rather than the work; such a task is not tried again.
        attempts: how many were made.
        seconds: how long the last one took.
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
    """What a worker says of an attempt: the fields of Outcome."""

    value: Any = field(default=None, repr=False)
    failure: str = ""
    trace: str = field(default="", repr=False)
    error: UserError | None = None
    seconds: float = 0.0


@frozen
class Attempt:
    """The `number`-th try of a task, counted from 1."""

    task: Task
    number: int = 1

    @property
    def argument(self) -> bytes:
        """The task's argument, pickled."""
        return pickle.dumps(self.task.argument)


class TaskQueue:
    """Which task comes next, and which comes again. Tasks are taken from their iterator when there is room for them."""

    def __init__(self, tasks: Iterable[Task | None], retries: int, tell: Callable[[str], None]):
        self._tasks, self._retries, self._tell = iter(tasks), retries, tell
        self._again: list[Attempt] = []

    def next(self) -> Attempt | None:
        """The next attempt, None where there is nothing to begin, at least for now."""
        if self._again:
            return self._again.pop(0)
        task = next(self._tasks, None)
        return None if task is None else Attempt(task)

    def settle(self, attempt: Attempt, answer: Answer) -> Outcome | None:
        """The task's outcome, None where it will be tried again."""
        if answer.failure and answer.error is None and attempt.number <= self._retries:
            self._again.append(evolve(attempt, number=attempt.number + 1))
            self._tell(f"{attempt.task.name}: {answer.failure}; trying again ({attempt.number} of {self._retries})")
            return None
        return Outcome(
            attempt.task, answer.value, answer.failure, answer.trace, answer.error, attempt.number, answer.seconds
        )


@frozen
class Call:
    """A function as it is sent to workers: pickled, with the folder it is called in and where its modules are found."""

    function: bytes = field(repr=False)
    folder: str
    path: tuple[str, ...]

    @classmethod
    def of(cls, function: Callable[[Any], Any]) -> Call:
        """In this process's folder."""
        return cls(pickle.dumps(function), os.getcwd(), tuple(sys.path))

    def load(self) -> Callable[[Any], Any]:
        """The function. Raises UserError where this machine does not have the folder."""
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
    """The worker's side: makes one attempt after another, always with the same copy of the function.

    `threads`: CPU threads that libraries may use. `devices`: the GPUs that they see; None leaves that as it is.
    """

    def __init__(self, call: Call, threads: int, devices: str | None = None):
        self._call = call
        self._function: Callable[[Any], Any] | None = None
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
            os.environ[name] = str(threads)
        if "torch" in sys.modules:  # too late for the environment
            sys.modules["torch"].set_num_threads(threads)
        if devices is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices

    def ready(self) -> None:
        """Returns when there is a worker to return."""

    def attempt(self, argument: bytes) -> bytes:
        """The answer, pickled. Whatever the function raises becomes part of it, but for KeyboardInterrupt."""
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
    """What a worker answered."""
    try:
        found = pickle.loads(answer)
    except Exception as error:
        return Answer(failure=f"its answer cannot be read: {type(error).__name__}: {error}")
    assert isinstance(found, Answer)
    return found
