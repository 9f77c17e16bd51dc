"""The region of clocks (t_f, k) that could be played live, from the times that playing took."""

from __future__ import annotations

import math
from collections.abc import Sequence

from accomp.core.comparison.curves import named_k
from accomp.core.comparison.entries import Entry
from accomp.core.pages.charts import Curve, line_chart
from accomp.core.pages.html import Html, table, tag


def region_chart(
    title: str,
    live: Sequence[tuple[float, float]],
    not_live: Sequence[tuple[float, float]],
    border: Sequence[tuple[float, float]],
) -> Html:
    """Draw points (t_f, k), both in s: live, not live, and the greatest live t_f for each k."""
    lines = [
        Curve("can be played live", live, "third", dots=True, joined=False),
        Curve("cannot", not_live, "second", dots=True, joined=False),
        Curve("greatest t_f that can", border, "accent", dots=len(border) == 1),
    ]
    axes = {"x": "t_f, seconds of input beyond the output's start", "y": "k, seconds"}
    return line_chart(title, [line for line in lines if line.points], [], **axes)


def region(entries: Sequence[Entry]) -> list[Html]:
    """Return a chart of the measured models with the border of the slowest measurement of each k, and their table."""
    measured = [(entry, entry.latency) for entry in entries if entry.latency and entry.t_f is not None]
    if not measured:
        return [tag("p", "No streaming model has played yet.", class_="note")]
    points: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for entry, one in measured:
        points[one.deployable].append((entry.t_f or 0.0, entry.k or 0.0))
    border = []
    for k in sorted({entry.k or 0.0 for entry, _ in measured}):
        found = [one for entry, one in measured if entry.k == k]
        if all(one.load <= 1.0 for one in found):
            frames = math.ceil(max(one.required / one.frame for one in found) - 1e-6)
            border.append((-frames * found[0].frame, k))
    chart = region_chart("Feasible region of (t_f, k) on the machine that played", points[True], points[False], border)
    rows = [
        [entry.name, named_k(entry.k or 0.0), f"{1000 * one.required:.0f} ms", f"{1000 * one.available:.0f} ms",
         f"{one.load:.0%}", "yes" if one.deployable else "no",
         "none" if one.nearest_t_f is None else f"{one.nearest_t_f:g} s"]
        for entry, one in measured
    ]  # fmt: skip
    head = ["", "k", "needed", "left by t_f", "busy", "live", "nearest t_f"]
    devices = {one.device for _, one in measured}
    note = (
        f"Measured on {', '.join(sorted(devices))}, while the takes were made, with whatever else ran there. Needed: "
        "delay between codebooks, codec, one step or chunk, and the 99.9th percentile of its lateness. "
        "Busy: share of real time; above 100 % the lateness grows without end."
    )
    return [tag("div", chart, tag("p", note, class_="note"), class_="card"),
            tag("div", table(head, rows, caption="Latency of each model"), class_="card")]  # fmt: skip
