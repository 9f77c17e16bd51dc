"""Processes that read clips from a store at full speed. Imports are few, since every process repeats them."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from queue import Empty
from typing import Any

import torch
from attrs import frozen

from accomp.core.bench.made_up_songs import identity
from accomp.core.data.loader import ClipLoader
from accomp.core.errors import WorkError
from accomp.core.spec.pairs import PairRules
from accomp.core.types import TokenSpace


@frozen
class Reading:
    """Settings of the readers: clips of `frames` frames, `seconds` long."""

    path: Path
    space: TokenSpace
    frames: int
    batch: int
    rules: PairRules
    processes: int
    seconds: float

    def loader(self, rank: int) -> ClipLoader:
        """Open the loader of one process."""
        tokenizer: Any = identity(self.space)
        return ClipLoader(
            self.path,
            "train",
            tokenizer,
            frames=self.frames,
            batch=self.batch,
            rules=self.rules,
            rank=rank,
            world=self.processes,
        )

    def rates(self) -> tuple[float, float]:
        """Measure the clips a second of all processes together, and the clips for each second of one's processor time.

        Opening the store does not count. Raises WorkError where a process fails.
        """
        context = multiprocessing.get_context("spawn")
        start, answers = context.Barrier(self.processes), context.Queue()
        ranks = [context.Process(target=_read, args=(self, rank, start, answers)) for rank in range(self.processes)]
        for process in ranks:
            process.start()
        rates: list[tuple[float, float]] = []
        while len(rates) < len(ranks):
            try:
                rates.append(answers.get(timeout=1.0))
            except Empty:
                if failed := [process for process in ranks if process.exitcode]:
                    for process in ranks:
                        process.terminate()
                    raise WorkError(f"a reader ended with exit code {failed[0].exitcode}; its error is above") from None
        for process in ranks:
            process.join()
        return sum(wall for wall, _ in rates), sum(cpu for _, cpu in rates) / len(rates)


def _read(reading: Reading, rank: int, start: Any, answers: Any) -> None:
    """Run one process: read batches until the time is over."""
    torch.set_num_threads(1)
    loader = reading.loader(rank)
    next(loader)
    start.wait()
    began, used, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < reading.seconds:
        count += len(next(loader).context)
    answers.put((count / (time.perf_counter() - began), count / (time.process_time() - used)))
