"""Fit of a run to a client's path: the budget of real-time playing, from measurements here and by the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import evolve, frozen

from accomp.core.clock import LatencyBudget
from accomp.core.generation.latency import as_records
from accomp.core.realtime.warmup import RHO
from accomp.core.serving.playing.resampling import DriftControl, delay
from accomp.core.streaming.audio_batch import AudioSessionBatch

QUANTUM = 128
"""The least block of a page's audio in samples; a browser processes several at once where its device's are larger."""


@frozen
class Path:
    """The path from a musician's instrument to the server and back.

    Attributes:
        rate: of the page (Hz).
        frame: seconds of its frames.
        first: loopback latency in seconds.
        rtt: round trip of the network in seconds, 99th percentile.
        block: seconds of sound that are put out at once, all of which has to be there at the begin.
    """

    rate: int
    frame: float = 0.01
    first: float = 0.0
    rtt: float = 0.0
    block: float = 0.0


@frozen
class Fit:
    """Fit of a run to a path. Attributes: budget: with the path's times in it."""

    budget: LatencyBudget
    name: str

    @property
    def fits(self) -> bool:
        return self.budget.deployable

    @property
    def spare_ms(self) -> float:
        return 1000 * (self.budget.available - self.budget.required)

    def as_record(self) -> dict[str, Any]:
        """Lines of the budget, and the time to spare."""
        return {"budget": as_records(self.budget), "spare_ms": round(self.spare_ms, 1)}

    def nearest(self) -> dict[str, Any] | None:
        """The feasible clock nearest to the run's; None without any."""
        clock = self.budget.nearest
        if clock is None:
            return None
        frame = 1000 * self.budget.frame
        return {"t_f": clock.t_f, "k": clock.k, "t_f_ms": clock.t_f * frame, "k_ms": clock.k * frame}


def fit(name: str, measured: LatencyBudget, path: Path, *, clocked: bool) -> Fit:
    """Fit a run to a path. clocked: the server's clock drives the ticks, so that some input waits."""
    space = measured.space
    queue = DriftControl().target if clocked else 0.0
    hold = delay(path.rate, space.sample_rate, varies=clocked)
    back = delay(space.sample_rate, path.rate, varies=clocked)
    return Fit(
        evolve(
            measured,
            input=path.frame + hold + path.rtt / 2 + queue,
            output=path.rtt / 2 + back + max(path.block, QUANTUM / path.rate) + max(0.0, path.first),
            rho=RHO,
        ),
        name,
    )


def best(fits: Mapping[str, Fit]) -> Fit:
    """The fitting run with the least lookahead; if none fits, the one closest to it."""
    fitting = [one for one in fits.values() if one.fits]
    if fitting:
        return max(fitting, key=lambda one: one.budget.clock.t_f)
    return max(fits.values(), key=lambda one: one.spare_ms)


def measure(slots: AudioSessionBatch, ticks: int, warm: int = 20) -> LatencyBudget:
    """Run on noise in every slot, tick by tick -> the measured budget, without a path. Ends all sessions in the
    slots.
    """
    rng = np.random.default_rng(0)
    for _ in range(slots.free):
        slots.join()
    noise = rng.uniform(-0.1, 0.1, (16, slots.hop)).astype(np.float32)
    parts, whole = [], []
    for number in range(warm + ticks):
        slots.step({slot: noise[(slot + number) % 16] for slot in slots.taken})
        if number >= warm:
            parts.append(slots.spent)
            whole.append(sum(slots.spent.values()))
    for slot in slots.taken:
        slots.leave(slot)
    k = slots.clock.k
    mean = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
    return LatencyBudget(
        slots.clock,
        slots.space,
        encode=mean["encode"] / k,
        first=float(np.median([part["generate"] for part in parts])),
        chunk=mean["generate"],
        decode=mean["decode"] / k,
        jitter=float(np.quantile(whole, 0.999) - np.median(whole)),
        rho=RHO,
    )
