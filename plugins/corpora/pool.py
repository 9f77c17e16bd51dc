"""Work spread over processes, results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from accomp.plugin import DataError

J = TypeVar("J")
R = TypeVar("R")


def each(work: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[tuple[J, R]]:
    """(job, work(job)) in the jobs' order; one worker works in this process.

    Work, jobs and results must be picklable. Raises what the work raises, and DataError where a process was killed;
    jobs that have not begun are then dropped.
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
                f"a worker process ended before its work did; what it said last is above. A worker is killed where "
                f"memory runs out: fewer --workers than {workers} need less. The same command goes on; "
                "finished songs are kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _prepare() -> None:
    """A worker dies with its parent, and at once where the user interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
