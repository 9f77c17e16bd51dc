"""Execution of a piece of a grid's work in its own process: the stages of a run, with their output in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accomp.core.console import say
from accomp.core.files import folder_lock
from accomp.core.grid.work import LOG, Kind, Work
from accomp.core.pipeline import run_stage
from accomp.core.registry import Registry
from accomp.core.runs.folder import borrow_model, clear_run, open_run

STAGES: dict[Kind, tuple[str, ...]] = {
    "store": ("ingest",),
    "training": ("train",),
    "anchors": ("evaluate",),
    "cell": ("generate", "evaluate", "report"),
}
"""Stages of each kind of work, in order."""


def perform(work: Work) -> dict[str, Any]:
    """Run a piece of work unless it is done, and write done.json; return its content.

    A store is compared with its corpus each time. Waits for another process in the same folder, such as one of a killed
    runner. Partial work is resumed. Raises the errors of the stages.
    """
    with folder_lock(work.folder, lambda who: say(f"{who} is at work here; waiting for it @ {work.folder}")):
        if work.kind != "store" and (done := work.record()):
            return done
        record: dict[str, Any] = {"kind": work.kind, "name": work.name, "seconds": {}, "resumed": work.begun}
        clear_run(work.folder)
        with _logged_in(work.folder / LOG):
            registry = Registry()
            _prepare(work)
            for stage in STAGES[work.kind]:
                began = time.monotonic()
                run_stage(stage, work.spec, registry, work.folder)
                record["seconds"][stage] = round(time.monotonic() - began, 3)
        return work.finish(record)


def _prepare(work: Work) -> None:
    """Create the run folder for the stages, and in a cell's the reference to its model."""
    if work.kind in ("training", "cell"):
        open_run(work.spec)
    if work.kind == "cell":
        assert work.model is not None, "a cell has a model"
        borrow_model(work.folder, work.model)


@contextmanager
def _logged_in(path: Path) -> Iterator[None]:
    """Append the output of the block, and of native libraries, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(1), os.dup(2)]
    with path.open("ab", buffering=0) as file:
        os.write(file.fileno(), f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}, process {os.getpid()}\n".encode())
        try:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, old in zip((1, 2), before, strict=True):
                os.dup2(old, stream)
                os.close(old)
