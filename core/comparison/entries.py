"""The entries of a comparison: models with takes and scores, and the anchors, read from run folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from attrs import evolve, field, frozen

from accomp.core.clock import Clock, LatencyBudget
from accomp.core.errors import DataError, UserError
from accomp.core.generation.latency import budget_of
from accomp.core.registry import Registry
from accomp.core.report.data import RunData, read_run
from accomp.core.spec.build import space_of
from accomp.core.spec.schema import structure

Kind = Literal["streaming", "offline", "anchor"]
Number = Mapping[str, Any]
"""{"value", "low", "high"}; the last two are None where there is no interval."""


@frozen
class Latency:
    """The latency budget of playing on a machine (core/clock.py). Times in seconds.

    Attributes:
        required, available: from sound in to sound out, and what t_f leaves for it.
        load: share of real time that the machine was busy.
        nearest_t_f: the greatest t_f up to the clock's that can be played live; None where none can.
        frame: of the codec.
    """

    required: float
    available: float
    load: float
    deployable: bool
    nearest_t_f: float | None
    frame: float
    device: str = ""


@frozen
class Entry:
    """A model, or an anchor.

    Attributes:
        name: unique on a page, for people.
        kind: a model with a clock, one without, or no model.
        metrics: metric -> its record in metrics.json.
        t_f, k: of a clock, in seconds; None without one.
        variant: its difference from another model with the same clock, "" for the plain one.
        takes: take.json of each take, with its `folder`.
        anchor: which one, as metrics.json calls it ("true_stem"); "" for a model.
        latency: None where the model has not played, or is offline.
        losses: of the last validation: {"loss", "context_gain", ...}; empty where not known.
        why: of a model that failed, the reason; everything else is empty then.
        left_out: requested clips without a take, {"clip", "reason"}.
    """

    name: str
    kind: Kind
    metrics: Mapping[str, Any] = field(factory=dict)
    t_f: float | None = None
    k: float | None = None
    variant: str = ""
    takes: tuple[Mapping[str, Any], ...] = ()
    anchor: str = ""
    latency: Latency | None = None
    losses: Mapping[str, Any] = field(factory=dict)
    why: str = ""
    left_out: tuple[Mapping[str, str], ...] = ()

    def number(self, metric: str, number: str) -> Number | None:
        """None where the metric does not apply, or no clip was scored."""
        found: Number | None = self.metrics.get(metric, {}).get("numbers", {}).get(number)
        return found

    def clips(self, metric: str, number: str) -> dict[str, float]:
        """Clip id -> value; empty for a number that belongs to all clips together."""
        takes = self.metrics.get(metric, {}).get("takes", {})
        return {id: values[number] for id, values in takes.items() if number in values}


def numbers(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Metric -> its numbers in the order in which it gives them; the first is the main one."""
    found: dict[str, dict[str, None]] = {}
    for entry in entries:
        for metric, record in entry.metrics.items():
            found.setdefault(metric, {}).update(dict.fromkeys(record["numbers"]))
    return {metric: list(names) for metric, names in found.items() if names}


def headlines(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """(metric, its first number)."""
    return [(metric, names[0]) for metric, names in numbers(entries).items()]


def read_entries(runs: Sequence[Path], registry: Registry) -> list[Entry]:
    """The models of run folders, then the anchors; an anchor of several runs is that of the first.

    Raises DataError for a folder that holds no run, or runs that were evaluated on different clips.
    """
    data = {run: read_run(run) for run in runs}
    models = [model_entry(one, registry) for one in data.values()]
    anchors: dict[str, Entry] = {}
    for one in data.values():
        for entry in anchor_entries(one.metrics or {"cells": {}}):
            anchors.setdefault(entry.name, entry)
    _refuse_other_clips(data)
    return [*distinct(models), *anchors.values()]


def model_entry(data: RunData, registry: Registry) -> Entry:
    """Return the model of a run, whichever stages have run."""
    cell = (data.metrics or {"cells": {}})["cells"].get("model", {})
    validations = data.losses_of("validation")
    failed = (data.made or {}).get("failed", [])
    entry = Entry(
        name=data.name,
        kind="streaming" if data.streams else "offline",
        metrics=cell.get("metrics", {}),
        takes=tuple(data.takes),
        losses=validations[-1] if validations else {},
        left_out=tuple(failed),
    )
    if not data.streams:
        return entry
    try:
        space = space_of(structure(data.spec, registry), registry)
    except UserError as error:
        raise DataError(f"the spec of run {data.name!r} cannot be read here: {error}") from error
    clock = Clock(**data.spec["clock"])
    parts = [take["timings"]["parts"] for take in data.takes if "parts" in take["timings"]]
    return evolve(
        entry,
        t_f=clock.t_f / space.frame_rate,
        k=clock.k / space.frame_rate,
        latency=_latency(budget_of(clock, space, parts), data.takes[0]["timings"]["device"]) if parts else None,
    )


def _latency(budget: LatencyBudget, device: str) -> Latency:
    nearest = budget.nearest_t_f
    at = None if nearest is None else nearest * budget.frame
    return Latency(budget.required, budget.available, budget.load, budget.deployable, at, budget.frame, device)


def anchor_entries(metrics: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield the anchors of a metrics.json."""
    for name, cell in metrics["cells"].items():
        if name != "model":
            left_out = tuple(cell.get("left_out", ()))
            yield Entry(cell["title"], "anchor", cell["metrics"], anchor=name, left_out=left_out)


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with a number behind names that occur twice."""
    seen: dict[str, int] = {}
    found = []
    for entry in entries:
        seen[entry.name] = seen.get(entry.name, 0) + 1
        found.append(entry if seen[entry.name] == 1 else evolve(entry, name=f"{entry.name} ({seen[entry.name]})"))
    return found


def anchor_of(entries: Sequence[Entry], anchor: str) -> Entry | None:
    """Return the entry of an anchor; None where it was not evaluated."""
    return next((entry for entry in entries if entry.anchor == anchor), None)


def _refuse_other_clips(data: Mapping[Path, RunData]) -> None:
    """Raise DataError where the runs have different clips, which would decide the comparison."""
    chosen = {run: json.dumps(_chosen(one)) for run, one in data.items() if one.made}
    if len(set(chosen.values())) > 1:
        told = [f"{run}: {', '.join(_chosen(data[run])) or 'none'}" for run in chosen]
        raise DataError("these runs were judged on different clips; give them the same [generate] and seed", *told)


def _chosen(data: RunData) -> list[str]:
    made = data.made or {}
    return sorted([*made.get("takes", []), *(failed["clip"] for failed in made.get("failed", []))])
