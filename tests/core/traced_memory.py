"""Memory that Python code takes, by tracemalloc: of several measurements the least, since whatever else runs in the
process (threads, the collector's finalizers) adds to one or another.
"""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def _traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def least_peak(work: Callable[[], object], times: int = 5) -> int:
    """Bytes that the work takes at its peak."""

    def peak() -> int:
        with _traced():
            work()
            return tracemalloc.get_traced_memory()[1]

    return min(peak() for _ in range(times))


def least_growth(work: Callable[[], object], times: int = 3) -> int:
    """Bytes that the work leaves behind, once it has been done before."""

    def held() -> int:
        work()
        return tracemalloc.get_traced_memory()[0]

    with _traced():
        sizes = [held() for _ in range(times + 1)]
    return min(after - before for before, after in itertools.pairwise(sizes))
