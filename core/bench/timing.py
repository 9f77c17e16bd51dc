"""Interleaved timing: compared functions run block by block in one process, so that other load affects all alike.

Wall time is the latency that a listener experiences; processor time is that of an otherwise idle machine with one
thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from attrs import frozen

from accomp.core.compute.roofline import synchronize
from accomp.core.console import progress

ENOUGH_FOR_P999 = 1000
"""Smallest number of steps for a 99.9th percentile."""


@frozen(eq=False)
class Work:
    """A function to be timed repeatedly.

    Attributes:
        run: runs it once, with its result on the host.
        block: runs in each round.
    """

    run: Callable[[], Any]
    block: int = 1


@frozen(eq=False)
class Times:
    """Times of the repetitions of one function (s), a row a round.

    Attributes:
        wall: [R, n] wall time, until the device had finished.
        cpu: [R, n] of all threads of the process.
        device: [R, n] between events on a GPU; None elsewhere.
        late: number of runs that missed their deadline.
    """

    wall: np.ndarray
    cpu: np.ndarray
    device: np.ndarray | None = None
    late: int = 0

    def figures(self, period: float) -> dict[str, float]:
        """Return percentiles (ms), n, real-time factor and late steps an hour; `period`: s of music a step."""
        found = {**percentiles(self.wall), "n": float(self.wall.size)}
        if self.device is None:
            found["cpu_ms"] = 1000 * float(np.median(self.cpu))
        else:
            found["device_ms"] = 1000 * float(np.median(self.device))
        found["rtf"] = float(self.wall.mean()) / period
        found["late_per_hour"] = 3600 * self.late / (self.wall.size * period)
        return found


class PacedInput:
    """A schedule of live input: one block every `period` (s), independent of the processing."""

    def __init__(
        self,
        period: float,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.period, self._now, self._sleep = period, now, sleep
        self._due = now()

    def restart(self) -> None:
        """Begin a new schedule now."""
        self._due = self._now()

    def wait(self) -> float:
        """Sleep until the next block, or not at all where it is late; return its due time."""
        if (ahead := self._due - self._now()) > 0:
            self._sleep(ahead)
        self._due += self.period
        return self._due


def interleaved(
    works: Mapping[str, Work],
    rounds: int,
    device: torch.device,
    *,
    period: float | Mapping[str, float] = math.inf,
    paced: bool = False,
    title: str = "bench",
) -> dict[str, Times]:
    """Time all functions in turns, `rounds` times a block of each; each round begins with another one.

    period: deadline (s) of a step; a longer one counts as late. `paced`: steps begin one period after the other, and a
    late one delays those after it, as live; else each begins when the last one ended.
    """
    names = list(works)
    periods = period if isinstance(period, Mapping) else dict.fromkeys(names, period)
    paces = {name: PacedInput(periods[name]) for name in names} if paced else {}
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    late = dict.fromkeys(names, 0)
    with progress(title, rounds) as advance:
        for turn in range(rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                if pace := paces.get(name):
                    pace.restart()
                for _ in range(works[name].block):
                    due = pace.wait() if pace else math.inf
                    once = timed(works[name].run, device)
                    taken[name].append(once)
                    late[name] += once[0] > periods[name] or time.perf_counter() > due
            advance(1)
    return {name: _times(taken[name], rounds, late[name], device) for name in names}


def timed(run: Callable[[], Any], device: torch.device) -> tuple[float, float, float]:
    """Time one call of `run` (s): wall, processor, device (0 where that is the processor)."""
    synchronize(device)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device.type == "cuda" else []
    began, used = time.perf_counter(), time.process_time()
    for event in events[:1]:
        event.record()
    run()
    for event in events[1:]:
        event.record()
    synchronize(device)
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    return wall, cpu, events[0].elapsed_time(events[1]) / 1000 if events else 0.0


def percentile(seconds: np.ndarray, share: float) -> float:
    """Return the least of the times that at least this share of them does not exceed."""
    ordered = np.sort(seconds, axis=None)
    return float(ordered[max(0, math.ceil(share * ordered.size - 1e-9) - 1)])


def percentiles(seconds: np.ndarray, prefix: str = "") -> dict[str, float]:
    """Return p50, p99 and, of enough, p99.9 (ms) by the names of their figures."""
    shares = {"p50_ms": 0.5, "p99_ms": 0.99} | ({"p999_ms": 0.999} if seconds.size >= ENOUGH_FOR_P999 else {})
    return {f"{prefix}{name}": 1000 * percentile(seconds, share) for name, share in shares.items()}


def speeds(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Return the speed-up of one time a round [R] over another: median and quartiles over the rounds."""
    low, middle, high = np.quantile(theirs / ours, [0.25, 0.5, 0.75])
    return {"speed": float(middle), "speed_low": float(low), "speed_high": float(high)}


def compare_to_first(times: Mapping[str, Times]) -> dict[str, dict[str, float]]:
    """Return, for each but the first, `speeds` of the medians of its rounds against those of the first."""
    medians = {name: np.median(one.wall, axis=1) for name, one in times.items()}
    base = next(iter(medians))
    return {name: {} if name == base else speeds(mine, medians[base]) for name, mine in medians.items()}


def _times(taken: list[tuple[float, float, float]], rounds: int, late: int, device: torch.device) -> Times:
    wall, cpu, there = np.array(taken).T.reshape(3, rounds, -1)
    return Times(wall, cpu, there if device.type == "cuda" else None, late)
