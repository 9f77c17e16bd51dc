"""`accomp bench --calibrate`: the clocks (t_f, k) that this machine can play live, from measured times."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from accomp.core.bench.live import clock_of
from accomp.core.bench.records import host
from accomp.core.bench.records.table import aligned
from accomp.core.bench.subject import BenchModel, subject
from accomp.core.clock import Clock, LatencyBudget
from accomp.core.comparison.region import region_chart
from accomp.core.compute.devices import PLAYING_THREADS, describe
from accomp.core.compute.devices import threads as using
from accomp.core.console import progress, say, warn
from accomp.core.errors import UserError
from accomp.core.files import write_atomic
from accomp.core.generation.latency import budget_of, part_times
from accomp.core.pages.document import Section, document
from accomp.core.pages.html import Html, table, tag
from accomp.core.realtime.warmup import RHO, live_budget
from accomp.core.registry import Registry
from accomp.core.runs.run import play
from accomp.core.training.random_init import noise, untrained_player
from accomp.core.types import TokenSpace

KS = (1, 2, 5, 10, 25, 50)
"""Chunk sizes (frames) that are timed."""
LEAST_CHUNKS = 20
MARGIN = 5
"""Number of t_f shown on either side of the border."""
LIVE = "Could it be played live?"
_MEANING = (
    "Blocks of one frame, as in accomp stream --realtime. A clock (t_f, k) can be played live where t_f leaves the "
    "time that is needed (delay between codebooks, codec, a chunk, and the 99.9th percentile of its lateness) and the "
    f"machine is busy at most {RHO:.0%} of the time. "
    "First: from a chunk's last input frame to its codes; whole: all the work for its k frames. With fewer than "
    "1000 chunks the 99.9th percentile is the slowest of them. The model is untrained and its input is noise."
)


@frozen
class Measured:
    """Measured times of chunks of one size.

    Attributes:
        k: frames.
        chunks: number of chunks behind the percentiles.
        times: `encode`, `first`, `chunk`, `decode`, `jitter` as LatencyBudget takes them (s); jitter is the 99.9th
            percentile over the median.
    """

    k: int
    chunks: int
    times: Mapping[str, float]

    def budget(self, space: TokenSpace, t_f: int = 0) -> LatencyBudget:
        """Return the latency budget of live use, a frame a block, at a future visibility t_f (frames)."""
        return live_budget(budget_of(Clock(t_f, self.k), space, [self.times]), space.hop)


def calibrate(
    name: str,
    settings: Sequence[str],
    registry: Registry,
    out: Path,
    *,
    device: str | None = None,
    threads: int | None = None,
    steps: int = 1000,
) -> None:
    """Time `steps` frames at each k, print the deployable region, and plot it on a page.

    Raises UserErrors for a spec that is invalid or cannot stream, and for a page whose name is no .html.
    """
    if out.suffix != ".html":
        raise UserError(f"a page's name ends with .html @ --out {out}")
    found = subject(name, settings, registry, device=device, threads=threads)
    clock_of(found)
    facts = host.host()
    if words := host.busy(facts):
        warn(words)
    with using(found.spec.run.threads or PLAYING_THREADS):
        measured = list(_measure(found, steps))
        where = describe(found.device)
    write_atomic(out, page(found.name, found.space, measured, where, host.describe(facts)))
    head, *body = rows(found.space, measured)
    say("\n".join([f"{host.describe(facts)}", "", f"{found.name}, {where}", *aligned([head, *body]), f"page: {out}"]))


def _measure(found: BenchModel, steps: int) -> Iterator[Measured]:
    """Play to noise, a frame at a time as if live, with an untrained model for each k."""
    with progress("calibrate", len(KS)) as advance:
        for k in KS:
            spec = attrs.evolve(found.spec, clock=Clock(0, k))  # t_f changes the input, not the computation
            player = untrained_player(spec, found.registry, found.device)
            chunks = max(LEAST_CHUNKS, math.ceil(steps / k))
            sound = noise(found.space, chunks * k)
            how: dict[str, Any] = {"labels": {}, "seed": 0, "session": 0}
            play(player, sound[: 2 * k * found.space.hop], [found.space.hop] * 2 * k, **how)  # one-time costs
            played = play(player, sound, [found.space.hop] * chunks * k, **how)
            yield Measured(k, chunks, part_times(played, Clock(0, k)))
            advance(1, note=f"k = {k}")


def border(space: TokenSpace, measured: Sequence[Measured]) -> list[tuple[int, int]]:
    """Return (t_f, k) in frames: the greatest deployable t_f <= 0 for each k that has one."""
    found = ((one.budget(space).nearest_t_f, one.k) for one in measured)
    return [(t_f, k) for t_f, k in found if t_f is not None]


def points(space: TokenSpace, measured: Sequence[Measured]) -> Iterator[tuple[int, int, bool]]:
    """Return (t_f, k, deployable) around the border, in frames."""
    edges = [t_f for t_f, _ in border(space, measured)] or [0]
    step = max(1, (max(edges) - min(edges) + 2 * MARGIN) // 30)
    for one in measured:
        for t_f in range(min(edges) - MARGIN, max(0, max(edges)) + MARGIN + 1, step):
            yield t_f, one.k, one.budget(space, t_f).deployable


def rows(space: TokenSpace, measured: Sequence[Measured]) -> list[list[str]]:
    """Return a header, and the times, the requirement and the border of each k."""
    head = [
        "k",
        "chunks",
        "first ms",
        "whole ms",
        "encode",
        "decode",
        "p99.9 over p50",
        "needed ms",
        "busy",
        "greatest t_f",
    ]
    body = []
    for one in measured:
        budget = one.budget(space)
        nearest = budget.nearest_t_f
        parts = [one.times[name] for name in ("first", "chunk", "encode", "decode", "jitter")]
        body.append([
            f"{one.k} ({one.k * budget.frame:g} s)", str(one.chunks), *(f"{1000 * part:.1f}" for part in parts),
            f"{1000 * budget.required:.0f}", f"{budget.load:.0%}",
            "none" if nearest is None else f"{nearest} ({nearest * budget.frame:g} s)",
        ])  # fmt: skip
    return [head, *body]


def page(name: str, space: TokenSpace, measured: Sequence[Measured], where: str, machine: str) -> str:
    """Return the document: the answer, the plot, and the table behind it."""
    frame = 1 / space.frame_rate
    by_fate: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for t_f, k, fate in points(space, measured):
        by_fate[fate].append((t_f * frame, k * frame))
    edge = [(t_f * frame, k * frame) for t_f, k in border(space, measured)]
    chart = region_chart(f"Feasible region of (t_f, k) on {where}", by_fate[True], by_fate[False], edge)
    head, *body = rows(space, measured)
    sections = [
        Section("region", LIVE, [_answer(space, measured), tag("div", chart, class_="card")]),
        Section("sizes", "Chunk sizes", tag("div", table(head, body, caption="Time per chunk size"), class_="card")),
        Section("meaning", "Meaning of the columns", tag("p", _MEANING), folded=True),
    ]
    return document(f"Calibration of {name}", sections, lead=machine)


def _answer(space: TokenSpace, measured: Sequence[Measured]) -> Html:
    """One sentence: the clocks with the smallest and the greatest chunk that can be played live."""
    edges = border(space, measured)
    if not edges:
        return tag("p", "No: the machine is too busy at every chunk size that was timed.")
    frame = 1 / space.frame_rate
    best = max(edges)
    told = f"t_f = {best[0]} frames ({best[0] * frame:g} s) or less with k = {best[1]}"
    return tag("p", f"Yes: {told}; {len(edges)} of {len(measured)} chunk sizes can be played live at some t_f.")
