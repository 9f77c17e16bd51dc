"""Plan of a grid as text: cells, shared work, costs, finished work, cells that are not deployable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import frozen

from accomp.core.clock import LatencyBudget
from accomp.core.generation.latency import budget_of
from accomp.core.grid.costs import (
    STORED,
    Estimate,
    Rates,
    bytes_in,
    judging_cost,
    known_rates,
    playing_cost,
    playing_shape,
    takes_bytes,
    training_bytes,
    training_cost,
)
from accomp.core.grid.record import clock_of
from accomp.core.grid.running import duration
from accomp.core.grid.work import GridWork, Work
from accomp.core.registry import Registry
from accomp.core.spec.build import space_of
from accomp.core.spec.schema import Spec

DOUBTFUL = 2.0
"""Factor by which stored figures may be wrong, either way; on a GPU by more."""


@frozen
class Cost:
    """Cost of one piece of work: seconds by stage, and bytes on the disk."""

    seconds: dict[str, Estimate]
    bytes: int


@frozen
class Playability:
    """Live deployability of a cell. `budget` is None for models that do not stream."""

    budget: LatencyBudget | None
    source: str = ""

    def describe(self) -> str:
        """Describe it in one word or two."""
        if self.budget is None:
            return "offline"
        if not self.budget.deployable:
            return "no"
        return "perhaps" if self.source == "" else "yes"


def plan(work: GridWork, registry: Registry) -> list[str]:
    """Return the lines of the plan. Reads the grid's folder and runs nothing."""
    rates = known_rates(work)
    done = {key: piece.record() is not None for key, piece in work.pieces.items()}
    costs = {key: _cost(piece, registry, rates) for key, piece in work.pieces.items()}
    lives = {one.cell.name: live(one.cell.spec, registry, rates) for one in work.cells}
    return [
        *_head(work, done),
        *_table(work, done, costs, lives, registry),
        *_shared(work, done, costs),
        *_left_out(work),
        *_totals(work, done, costs),
        *_warnings(work, lives),
        *_made_with(work, done),
    ]


def live(spec: Spec, registry: Registry, rates: Rates) -> Playability:
    """Return the latency budget of a cell from measured step times; without any, from codec and delays alone."""
    if spec.clock is None:
        return Playability(None)
    nothing = {"encode": 0.0, "decode": 0.0, "first": 0.0, "chunk": 0.0, "jitter": 0.0}
    times, source = rates.parts.get(playing_shape(spec), ([nothing], ""))
    return Playability(budget_of(spec.clock, space_of(spec, registry), times), source)


def _cost(piece: Work, registry: Registry, rates: Rates) -> Cost:
    spec = piece.spec
    match piece.kind:
        case "training":
            return Cost({"training": training_cost(spec, registry, rates)}, training_bytes(spec, registry, rates))
        case "cell":
            playing, judging = playing_cost(spec, registry, rates), judging_cost(spec, spec.generate.takes, rates)
            return Cost({"playing": playing, "judging": judging}, takes_bytes(spec, registry))
        case "anchors":
            clips = spec.evaluate.anchors * len(spec.evaluate.cells)
            return Cost({"judging": judging_cost(spec, clips, rates)}, 0)
        case "store":
            return Cost({}, 0)


def _head(work: GridWork, done: dict[str, bool]) -> list[str]:
    grid = work.grid
    counts = [(len(work.cells), "cell"), *((len(work.of_kind(kind)), kind) for kind in ("training", "store"))]
    finished = sum(done[one.judged.key] for one in work.cells)
    trained = sum(done[piece.key] for piece in work.of_kind("training"))
    words = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)
    return [
        f"{grid.name}: {words}; {grid.folder}",
        f"done: {finished} of {len(work.cells)} cells, {trained} of {len(work.of_kind('training'))} trainings",
    ]


def _table(
    work: GridWork, done: dict[str, bool], costs: dict[str, Cost], lives: dict[str, Playability], registry: Registry
) -> list[str]:
    first: dict[str, str] = {}
    rows = [("cell", "t_f", "k", "model", "takes and scores", "live")]
    for one in work.cells:
        name, training, judged = one.cell.name, one.training.key, one.judged.key
        owner = first.setdefault(training, name)
        model = _state(done[training], costs[training]) if owner == name else f"that of {owner}"
        twin = first.setdefault(judged, name)
        scores = _state(done[judged], costs[judged]) if twin == name else f"those of {twin}"
        rows.append((name, *_clock(one.cell.spec, registry), model, scores, lives[name].describe()))
    return ["", *_columns(rows)]


def _clock(spec: Spec, registry: Registry) -> tuple[str, str]:
    """Format t_f and k in seconds."""
    clock = clock_of(spec, registry)
    return ("", "") if clock is None else (f"{clock['t_f']['seconds']:g} s", f"{clock['k']['seconds']:g} s")


def _state(done: bool, cost: Cost) -> str:
    return "done" if done else f"about {duration(sum(one.seconds for one in cost.seconds.values()))}"


def _shared(work: GridWork, done: dict[str, bool], costs: dict[str, Cost]) -> list[str]:
    lines = ["", "done once, for all cells that need it:"]
    for piece in work.of_kind("store"):
        lines.append(
            f"  store {piece.spec.store.path}: {_users(piece)}; {'filled' if done[piece.key] else 'to be filled'}"
        )
    shared = [piece for piece in work.of_kind("training") if len(piece.cells) > 1]
    lines += [f"  training {piece.name}: {', '.join(piece.cells)}" for piece in shared]
    for piece in work.of_kind("anchors"):
        state = _state(done[piece.key], costs[piece.key])
        lines.append(f"  anchors ({', '.join(piece.spec.evaluate.cells)}): {_users(piece)}; {state}")
    cache = work.grid.folder / "cache"
    present = f" ({_size(bytes_in(cache))} there)" if cache.is_dir() else ""
    return [*lines, f"  what metrics find out about contexts and true stems: {cache}{present}"]


def _users(piece: Work) -> str:
    return f"{len(piece.cells)} {'cell' if len(piece.cells) == 1 else 'cells'}"


def _left_out(work: GridWork) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for one in work.grid.skipped:
        reasons.setdefault(one.reason, []).append(one.name)
    if not reasons:
        return []
    return ["", "left out:", *(f"  {reason}: {', '.join(names)}" for reason, names in reasons.items())]


def _totals(work: GridWork, done: dict[str, bool], costs: dict[str, Cost]) -> list[str]:
    todo = [(piece, costs[key]) for key, piece in work.pieces.items() if not done[key]]
    spent: dict[str, float] = {}
    sources: dict[str, Counter[str]] = {}
    for _, cost in todo:
        for what, estimate in cost.seconds.items():
            spent[what] = spent.get(what, 0.0) + estimate.seconds
            sources.setdefault(what, Counter())[estimate.source] += 1
    lines = [
        "",
        f"disk: {_size(_stored_bytes(work.grid.folder))} there, about {_size(sum(c.bytes for _, c in todo))} to come",
    ]
    if leftovers := work.leftovers():
        names = ", ".join(folder.name for folder in leftovers[:3]) + (" and more" if len(leftovers) > 3 else "")
        size = _size(sum(map(bytes_in, leftovers)))
        lines.append(f"of no cell any more, and free to be removed: {len(leftovers)} folders, {size} ({names})")
    if not todo:
        return [*lines, "nothing is left to be done"]
    lines.append(f"time: about {_hours(sum(spent.values()))} of work{_side_by_side(work, todo)}")
    for what, seconds in spent.items():
        listed = ", ".join(f"{source} ({count})" for source, count in sources[what].items())
        lines.append(f"  {what}: {_hours(seconds)}; from {listed}")
    if any(STORED in counter for counter in sources.values()):
        lines.append(
            f"  stored figures may well be off by a factor of {DOUBTFUL:g}, on a GPU by more; "
            f"--plan --calibrate measures here"
        )
    if any(piece.kind == "store" for piece, _ in todo):
        lines.append("  filling the store is not among it: how much music there is shows when it is read")
    return lines


def _side_by_side(work: GridWork, todo: Sequence[tuple[Work, Cost]]) -> str:
    """Return the time with several workers: not less than their share, nor than the longest chain."""
    workers = work.grid.runner.workers or 1
    if workers == 1:
        return ""
    own = {piece.key: sum(one.seconds for one in cost.seconds.values()) for piece, cost in todo}
    chains = [own[piece.key] + sum(own.get(key, 0.0) for key in piece.needs) for piece, _ in todo]
    return f", {_hours(max(sum(own.values()) / workers, max(chains)))} for {workers} workers"


def _warnings(work: GridWork, lives: dict[str, Playability]) -> list[str]:
    """Yield one line for all cells that are not deployable for the same reason."""
    groups: dict[str, list[str]] = {}
    for one in work.cells:
        found = lives[one.cell.name]
        if found.budget is None or found.budget.deployable:
            continue
        budget = found.budget
        if not found.source:
            needed = f"{1000 * budget.structural:.0f} ms for delay pattern and codec alone"
            text = f"cannot be played live on any machine, since t_f leaves less than {needed}"
        elif budget.nearest_t_f is None:
            text = f"cannot be played live at any t_f: steps take longer than their frames last ({found.source})"
        else:
            text = f"cannot be played live: t_f = {budget.nearest_t_f} frames could be ({found.source})"
        groups.setdefault(text, []).append(one.cell.name)
    lines = [f"warning: {_listed(names)} {text}" for text, names in groups.items()]
    return ["", *lines, "they are trained and scored all the same, offline"] if lines else []


def _made_with(work: GridWork, done: dict[str, bool]) -> list[str]:
    """Warn where models were trained by different code or libraries, which the hashes do not cover."""
    groups: dict[str, list[str]] = {}
    for piece in work.of_kind("training"):
        path = piece.folder / "versions.json"
        if done[piece.key] and path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            listed = ", ".join(f"{name} {found[name]}" for name in ("accomp", "git", "torch") if name in found)
            groups.setdefault(listed, []).append(piece.name)
    if len(groups) < 2:
        return []
    lines = [f"  {listed}: {', '.join(names)}" for listed, names in groups.items()]
    return ["", "warning: not all models were trained by the same versions:", *lines]


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} cells ({', '.join(names)})" if len(names) > 1 else names[0]


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _stored_bytes(folder: Path) -> int:
    return bytes_in(folder) if folder.is_dir() else 0


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else duration(seconds)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
