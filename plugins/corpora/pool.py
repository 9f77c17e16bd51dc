"""Ordered parallel map over processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from accomp.core.errors import DataError

J = TypeVar("J")
R = TypeVar("R")


def each(work: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[tuple[J, R]]:
    """Yield (job, work(job)) in order; a single worker runs in this process.

    Work, jobs and results must be picklable. Propagates exceptions of the work; raises DataError for a killed process.
    Pending jobs are then cancelled.
    """
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, work(job)
        return
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=spawning, initializer=_prepare) as pool:
        try:
            yield from zip(jobs, pool.map(work, jobs), strict=True)
        except BrokenProcessPool as error:
            raise DataError(
                f"a worker process died; its last output is above. Workers are killed when "
                f"memory runs out: use fewer --workers than {workers}. The same command resumes; "
                "finished songs are kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _prepare() -> None:
    """Make a worker exit with its parent and immediately on interrupt."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
