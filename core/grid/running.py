"""Execution of a grid: unfinished work goes to the engine, each piece as soon as its dependencies are done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from accomp.core.console import say, warn
from accomp.core.engines import Outcome, Task, run_tasks
from accomp.core.files import folder_lock, write_atomic
from accomp.core.grid.record import WAITING, Ledger, State
from accomp.core.grid.tasks import perform
from accomp.core.grid.work import LOG, GridWork, Work
from accomp.core.registry import Registry
from accomp.core.spec.toml_files import toml_text

FIRST = ("store", "cell", "anchors", "training")
"""Priority of kinds of work: a cell whose model is trained comes before another training."""


def run_grid(work: GridWork, registry: Registry, *, fresh: bool = True) -> int:
    """Run the unfinished work; return the exit code: 1 where something failed, which stops only its dependents.

    Waits for another process that runs the same grid. Ctrl-C and SIGTERM stop all tasks, which save their state, and
    raise KeyboardInterrupt. `fresh`: each task has a process of its own.
    """
    grid = work.grid

    def waiting(who: str) -> None:
        say(f"{who} runs this grid; waiting for it @ {grid.folder}")

    with folder_lock(grid.folder, waiting), _sigterm_interrupts():
        write_atomic(grid.folder / "grid.toml", toml_text(grid.data))
        board = _Board(work, Ledger(work, registry))
        try:
            with run_tasks(grid.runner, board.tasks(), perform, started=board.begun, fresh=fresh) as outcomes:
                for outcome in outcomes:
                    board.ended(outcome)
        finally:
            board.close()
        return board.summary()


def turn(piece: Work) -> tuple[int, int]:
    """Return the priority, smallest first: by kind, and the longest training first, so that none is left over alone."""
    train = piece.spec.train
    frames = train.steps * train.batch * train.accumulate * train.frames
    return FIRST.index(piece.kind), -frames if piece.kind == "training" else 0


class _Board:
    """States of the work and selection of the next piece."""

    def __init__(self, work: GridWork, ledger: Ledger):
        self._work, self._ledger = work, ledger
        self._states = {
            key: State("done") if piece.kind != "store" and piece.record() else WAITING
            for key, piece in work.pieces.items()
        }
        for piece in work.of_kind("store"):
            users = [key for key, other in work.pieces.items() if piece.key in other.needs]
            if all(self._states[key].status == "done" for key in users):
                self._states[piece.key] = State("done")
        self._reported = 0
        self._todo = sum(state.status != "done" for state in self._states.values())
        if done := len(self._states) - self._todo:
            say(f"done already: {done} of {len(self._states)} pieces of work")
        ledger.write(self._states)

    def tasks(self) -> Iterator[Task | None]:
        """Yield work that can begin; None while there is none at present."""
        while any(state == WAITING for state in self._states.values()):
            ready = [piece for piece in self._work.pieces.values() if self._is_ready(piece)]
            piece = min(ready, key=turn, default=None)
            if piece is not None:
                self._states[piece.key] = State("running")
            yield Task(piece.title, piece) if piece else None

    def begun(self, task: Task) -> None:
        """Record that a worker has got a task."""
        say(f"begun: {task.name}")
        self._ledger.write(self._states)

    def ended(self, outcome: Outcome) -> None:
        """Record that a task is done, or has failed finally."""
        piece: Work = outcome.task.argument
        self._reported += 1
        if outcome.failure:
            self._fail(piece, outcome.failure)
            warn(f"failed: {piece.title}: {outcome.failure} (its output: {piece.folder / LOG})")
            if outcome.trace and outcome.error is None:
                piece.folder.mkdir(parents=True, exist_ok=True)
                with (piece.folder / LOG).open("a", encoding="utf-8") as file:
                    file.write(outcome.trace)
        else:
            self._states[piece.key] = State("done")
            say(f"done: {piece.title}, {duration(outcome.seconds)} ({self._reported} of {self._todo})")
        self._ledger.write(self._states)

    def close(self) -> None:
        """Reset running work to "waiting"."""
        for key, state in self._states.items():
            if state.status == "running":
                self._states[key] = WAITING
        self._ledger.write(self._states)

    def summary(self) -> int:
        """Print the result of the grid; return its exit code."""
        failed = [piece for piece in self._work.pieces.values() if self._states[piece.key].status == "failed"]
        cells = [self._states[one.judged.key] for one in self._work.cells]
        done = sum(state.status == "done" for state in cells)
        say(f"{done} of {len(cells)} cells are done: {self._work.grid.folder}")
        for piece in failed:
            text = f"failed: {piece.title}: {self._states[piece.key].error}"
            if len(piece.cells) > 1 or piece.kind != "cell":
                text += f"; needed by {', '.join(piece.cells[:3])}{' and more' if len(piece.cells) > 3 else ''}"
            warn(text)
        if failed:
            warn("the same command tries again what failed, and nothing else")
        return 1 if failed else 0

    def _is_ready(self, piece: Work) -> bool:
        needs = [self._states[key].status for key in piece.needs]
        return self._states[piece.key] == WAITING and all(status == "done" for status in needs)

    def _fail(self, piece: Work, why: str) -> None:
        self._states[piece.key] = State("failed", why)
        self._block(piece, State("blocked", f"{piece.title} failed: {why}"))

    def _block(self, piece: Work, why: State) -> None:
        """Block all direct and indirect dependents of a piece."""
        for other in self._work.pieces.values():
            if piece.key in other.needs and self._states[other.key] == WAITING:
                self._states[other.key] = why
                self._block(other, why)


def duration(seconds: float) -> str:
    """Format seconds: 12 s, 3 min 20 s, 2 h 5 min, 3 days 4 h."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} {'day' if days == 1 else 'days'} {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C within the block; no change where signals cannot be handled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
