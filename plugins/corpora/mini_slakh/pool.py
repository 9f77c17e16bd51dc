"""Work spread over processes, results in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from accomp.core.errors import DataError

J = TypeVar("J")
R = TypeVar("R")


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(work: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[tuple[J, R]]:
    """(job, work(job)) in the jobs' order; one worker works in this process.

    Work, jobs and results must be picklable. Raises what the work raises, and DataError where a process was killed;
    jobs that have not begun are then dropped.
    """
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, work(job)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        try:
            yield from zip(jobs, pool.map(work, jobs), strict=True)
        except BrokenProcessPool as error:
            raise DataError(
                f"a worker process was killed (out of memory?); run the same command again with fewer --workers than "
                f"{workers}: finished songs are kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
