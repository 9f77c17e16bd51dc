"""Grids of the tiny experiment, and an engine that does their tasks in this process, one after another.

    python grids.py FOLDER SEED       runs FOLDER/grid.toml in children that are killed one after another, till one
                                      comes through; prints how many were killed

A child kills itself (SIGKILL) before a random one of the file operations that change something below the grid's folder,
so that over the runs every step of every stage is hit, without regard to time.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import tiny
from killed_ingest import die_before

from accomp.core.engines import Outcome, Task
from accomp.core.errors import UserError
from accomp.core.grid import running, tasks
from accomp.core.grid.work import GridWork, work_of
from accomp.core.spec.grid import load_grid
from accomp.core.spec.runner import RunnerSpec
from accomp.core.spec.toml_files import toml_text

KILLS = 8

SWEEP = """
[sweep]
clock.t_f = [-2, 2]
"""
GREEDY = """
[[extra]]
name = "greedy"
like = "t_f=2"
set.sampler = { plugin = "greedy" }
"""
ANCHORS = """
[anchors]
cells = ["true_stem", "random_pairing"]
"""


def write_grid(folder: Path, corpus: Path, text: str = SWEEP + GREEDY + ANCHORS, **train: int) -> Path:
    """FOLDER/grid.toml over the tiny experiment, trained for `train`; its own folder is FOLDER/grid."""
    folder.mkdir(parents=True, exist_ok=True)
    base = tiny.plain(corpus, folder, folder / "store.zarr")
    base["run"].pop("folder")  # type: ignore[attr-defined]
    base["train"].update({"steps": 6, "validate_every": 3, "checkpoint_every": 2, "log_every": 2} | train)  # type: ignore[attr-defined]
    base["generate"].update(takes=2)  # type: ignore[attr-defined]
    base["evaluate"].update(anchors=2)  # type: ignore[attr-defined]
    (folder / "base.toml").write_text(toml_text(base))
    path = folder / "grid.toml"
    path.write_text(f'base = "{folder / "base.toml"}"\nfolder = "{folder / "grid"}"\n{text}')
    return path


def work(path: Path) -> GridWork:
    """The work of a grid file, with the tiny experiment's parts."""
    return work_of(load_grid(path, tiny.registry()))


@contextlib.contextmanager
def inline(
    runner: RunnerSpec,
    tasks: Iterable[Task | None],
    function: Callable[[Any], Any],
    *,
    started: Callable[[Task], None],
    fresh: bool,
) -> Iterator[Iterator[Outcome]]:
    """As engines.run_tasks, without processes."""

    def outcomes() -> Iterator[Outcome]:
        for task in tasks:
            if task is None:
                return
            started(task)
            try:
                yield Outcome(task, function(task.argument))
            except UserError as error:
                yield Outcome(task, failure=str(error), error=error)
            except Exception as error:
                yield Outcome(task, failure=f"{type(error).__name__}: {error}")

    yield outcomes()


def run_inline(path: Path) -> int:
    """Run a grid file in this process."""
    before = running.run_tasks, tasks.Registry
    running.run_tasks, tasks.Registry = inline, tiny.registry  # type: ignore[assignment,misc]
    try:
        return running.run_grid(work(path), tiny.registry())
    finally:
        running.run_tasks, tasks.Registry = before  # type: ignore[misc]


def main(folder: str, seed: int) -> None:
    rng = random.Random(seed)
    killed = 0
    while True:
        operation = rng.randint(1, 60)
        child = os.fork()
        if child == 0:
            if killed < KILLS:
                die_before(operation, str(Path(folder, "grid")))
            with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                code = run_inline(Path(folder, "grid.toml"))
            os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        elif os.WEXITSTATUS(status):
            raise SystemExit(f"a child failed with exit code {os.WEXITSTATUS(status)}")
        else:
            print(killed)
            return


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]))
