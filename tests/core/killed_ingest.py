"""A program for test_ingest.py: ingests a corpus in children that are killed one after another, till one comes through.

    python killed_ingest.py CORPUS STORE SEED KILLS WORKERS       prints how many were killed

A child kills itself (SIGKILL) before a random one of the file operations that change something below STORE, so that
over the runs every step of writing is hit, without regard to time.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from pathlib import Path

import torch
from fakes import FolderCorpus
from ingest_workers import energy_encoder

from accomp.core.data.ingest.stage import ingest_corpus
from accomp.core.spec.runner import RunnerSpec

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "os.link"}


def die_before(operation: int, store: str) -> None:
    left = operation

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        changes = event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and any(str(argument).startswith(store) for argument in arguments[:2]):
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def main(corpus: str, store: str, seed: int, kills: int, workers: int) -> None:
    torch.set_num_threads(1)
    rng = random.Random(seed)
    killed = 0
    while True:
        operation = rng.randint(1, 40)
        child = os.fork()
        if child == 0:
            with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                if killed < kills:
                    die_before(operation, store)
                opened, runner = FolderCorpus(FolderCorpus.Config(corpus)), RunnerSpec(workers=workers)
                ingest_corpus(
                    opened, energy_encoder(), Path(store), submixes=2, seed=1, runner=runner, build=energy_encoder
                )
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        elif os.WEXITSTATUS(status):
            raise SystemExit(f"a child failed with exit code {os.WEXITSTATUS(status)}")
        else:
            print(killed)
            return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
