"""What the engines' tests have workers do, and the promises that every engine keeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from accomp.core.engines import Outcome, Task, run_tasks
from accomp.core.errors import DataError
from accomp.core.spec.runner import RunnerSpec

Order = tuple[str, Any]


class Actor:
    """Does what it is told, and counts how often it was told anything since it came to its worker."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, order: Order) -> Any:
        self.calls += 1
        what, value = order
        return getattr(self, what)(value)

    def square(self, number: int) -> int:
        return number * number

    def count(self, _: Any) -> tuple[int, int]:
        time.sleep(0.02)
        return os.getpid(), self.calls

    def refuse(self, text: str) -> None:
        raise ValueError(text)

    def be_given_nonsense(self, _: Any) -> None:
        raise DataError("no such song", "and no such folder")

    def leave(self, code: int) -> None:
        sys.exit(code)

    def die(self, number: int) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    def die_once(self, path: str) -> str:
        """At the first call of all, whichever worker gets it."""
        if not Path(path).exists():
            Path(path).touch()
            self.die(signal.SIGKILL)
        return "alive"

    def give_what_cannot_be_sent(self, _: Any) -> Any:
        return lambda: 0

    def look_around(self, _: Any) -> tuple[str, str | None, str | None]:
        return os.getcwd(), os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES")

    def wait_with_a_child(self, path: str) -> None:
        """Starts a process, writes down both, and waits; when it is interrupted, it says so."""
        try:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            Path(f"{path}.draft").write_text(f"{os.getpid()} {child.pid}")
            Path(f"{path}.draft").rename(path)
            time.sleep(600)
        except KeyboardInterrupt:
            Path(f"{path}.saved").touch()
            raise


def run(runner: RunnerSpec, *orders: Order, **settings: Any) -> dict[str, Outcome]:
    """The outcomes by "number what" of the orders."""
    tasks = [Task(f"{number} {what}", (what, value)) for number, (what, value) in enumerate(orders)]
    with run_tasks(runner, tasks, Actor(), **settings) as outcomes:
        found = list(outcomes)
    assert sorted(outcome.task.name for outcome in found) == sorted(task.name for task in tasks), "each once"
    return {outcome.task.name: outcome for outcome in found}


def keeps_its_promises(runner: RunnerSpec, folder: Path) -> None:
    """Whatever happens to a task, it has one outcome, and the other tasks have theirs. `runner` has one retry."""
    found = run(
        runner,
        ("square", 3),
        ("die", signal.SIGKILL),
        ("refuse", "not this one"),
        ("be_given_nonsense", None),
        ("leave", 3),
        ("die_once", str(folder / "died")),
        ("give_what_cannot_be_sent", None),
        ("look_around", None),
        ("square", 4),
    )
    assert [found["0 square"].value, found["8 square"].value] == [9, 16]
    assert found["0 square"].failure == ""
    assert (found["1 die"].value, found["1 die"].attempts) == (None, 2)
    assert found["1 die"].failure
    assert (found["2 refuse"].failure, found["2 refuse"].attempts) == ("ValueError: not this one", 2)
    assert "in refuse" in found["2 refuse"].trace
    wrong = found["3 be_given_nonsense"]
    assert (type(wrong.error), wrong.attempts) == (DataError, 1), "what the user did wrong comes again"
    assert wrong.error.problems == ("no such song", "and no such folder")
    assert found["4 leave"].failure == "SystemExit: 3"
    assert (found["5 die_once"].value, found["5 die_once"].attempts) == ("alive", 2)
    assert "lambda" in found["6 give_what_cannot_be_sent"].failure
    assert found["7 look_around"].value[:2] == (os.getcwd(), str(runner.cpus))
