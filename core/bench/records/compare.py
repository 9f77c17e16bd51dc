"""Comparison of a record with an earlier one: the ratio of each figure."""

from __future__ import annotations

from collections.abc import Iterator

from accomp.core.bench.records.figures import FIGURES, shown
from accomp.core.bench.records.host import WHAT_MAKES_TIMES
from accomp.core.bench.records.record import BenchRow, Record
from accomp.core.bench.records.table import aligned, groups, heading

OUTSIDE = ("n", "speed_low", "speed_high")
"""Figures without a ratio."""


def lines(now: Record, before: Record) -> list[str]:
    """Format, for every common case, the ratio of each figure to the earlier one, and its direction. One line each.

    Every line is marked where the earlier record is of another processor, GPU or version of torch.
    """
    other = different(now, before)
    lines = [f"the earlier record: {before.machine.get('date', 'undated')}, load {before.machine.get('load')}"]
    lines += [f"  another {name}: {new}, before {old}" for name, (new, old) in other.items()]
    earlier = {line.key: line for line in before.lines}
    for group in groups(now.lines):
        there = [line for line in group if line.key in earlier]
        missing = [line.case for line in group if line.key not in earlier]
        lines += ["", heading(group[0]) + (f"; before on another {', '.join(other)}" if other else "")]
        cells = [[line.case, *cell] for line in there for cell in ratios(line, earlier[line.key])]
        lines += [f"  {row}" for row in aligned(cells)] if cells else []
        lines += [f"  not in the earlier record: {', '.join(missing)}"] if missing else []
    return lines


def ratios(now: BenchRow, before: BenchRow) -> Iterator[tuple[str, str, str, str, str]]:
    """Return (figure, now, before, ratio, "better", "worse" or "") for each common figure."""
    for name, figure in FIGURES.items():
        if name in OUTSIDE or name not in now.figures or name not in before.figures:
            continue
        new, old = now.figures[name], before.figures[name]
        ratio = f"x {new / old:.2f}" if old else ("same" if new == old else "from 0")
        went = (
            "" if new == old or not figure.better else "better" if (new < old) == (figure.better == "less") else "worse"
        )
        yield figure.heading, shown(new), shown(old), ratio, went


def different(now: Record, before: Record) -> dict[str, tuple[object, object]]:
    """Return the properties of the machine that affect times and differ: name -> now, before."""
    pairs = {name: (now.machine.get(name), before.machine.get(name)) for name in WHAT_MAKES_TIMES}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
