"""A piece of a grid's work, done by a process of its own: the stages of a run, with what they say kept in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accomp.core.console import say
from accomp.core.files import folder_lock
from accomp.core.registry import Registry
from accomp.core.run_folder import borrow_model, open_run
from accomp.core.runner.grid.work import LOG, Work


def perform(work: Work) -> dict[str, Any]:
    """Do a piece of work unless it is done, and say so in its folder; returns what done.json then holds.

    A store is compared with its corpus each time. A folder that another process is at, perhaps one of a runner that was
    killed, is waited for. What is half done is gone on with. Raises whatever the stages raise.
    """
    with folder_lock(work.folder, lambda: say(f"another process is at work here; waiting for it @ {work.folder}")):
        if work.kind != "store" and (done := work.record()):
            return done
        record: dict[str, Any] = {"kind": work.kind, "name": work.name, "seconds": {}, "resumed": work.begun}
        with _told_in(work.folder / LOG):
            for stage, do in _stages(work, Registry()).items():
                began = time.monotonic()
                do()
                record["seconds"][stage] = round(time.monotonic() - began, 3)
        return work.finish(record)


def _stages(work: Work, registry: Registry) -> dict[str, Callable[[], Any]]:
    """By name, in order. Each imports what it runs when it runs."""
    spec, folder = work.spec, work.folder

    def ingest() -> None:
        from accomp.core.runner.ingest import ingest

        ingest(spec, registry)

    def train() -> None:
        from accomp.core.runner.train import train

        open_run(spec)
        train(spec, registry, folder)

    def anchors() -> None:
        from accomp.core.runner.evaluate import evaluate_anchors

        evaluate_anchors(spec, registry, folder)

    def generate() -> None:
        from accomp.core.runner.generate import generate

        assert work.model is not None, "a cell has a model"
        open_run(spec)
        borrow_model(folder, work.model)
        generate(spec, registry, folder)

    def evaluate() -> None:
        from accomp.core.runner.evaluate import evaluate

        evaluate(spec, registry, folder)

    def report() -> None:
        from accomp.core.runner.report import write_report

        write_report(spec, registry, folder)

    match work.kind:
        case "store":
            return {"ingest": ingest}
        case "training":
            return {"train": train}
        case "anchors":
            return {"evaluate": anchors}
        case "cell":
            return {"generate": generate, "evaluate": evaluate, "report": report}


@contextmanager
def _told_in(path: Path) -> Iterator[None]:
    """What the block prints, and libraries below Python, goes to the end of a file."""
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
