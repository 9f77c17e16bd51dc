"""grid.json: state and results of a grid in machine-readable form; the page is made from it.

Paths are relative to the grid's folder. Missing results are null.

    format, name, versions
    axes       [{"key": "clock.t_f", "label": "t_f", "values": ["-1s", ...]}], values as the grid file writes them
    cells      in the order of the grid file, swept ones first:
        name, swept, axes {key: value}
        clock      {"t_f": {"frames", "seconds"}, "k": {"frames", "seconds"}, "frame_seconds"}; null where there is none
        objective, sampler, guidance, seed, generate: from the spec
        status     "done", "running", "waiting", "failed", or "blocked" where something it needs has failed
        error      one line, for the last two
        hashes     {"store", "training", "takes", "scores", "anchors"} (core/spec/fingerprints.py)
        folder, model, anchors: run folder of its takes, of its training; folder of its anchors
        training   {"steps", "step_seconds", "best_step", "validation", "unigram"}: records of losses.jsonl
        takes      {"made", "failed": [{"clip", "reason"}], "ids"}
        timing     {"device", "real_time_factor", "step"}: of the slowest take; step, of models that stream:
                   {"limit_ms", "median_ms", "p99_ms", "max_ms", "parts", "required_ms", "available_ms", "load",
                   "deployable", "nearest_t_f", "verdict"} (core/generation/latency.py)
        metrics    {metric: {"provenance", "best", "scored", "empty", "failed", "applies", "numbers", "classes"}} as in
                   metrics.json, with counts of the clips that were empty or failed
    anchors    [{"hash", "folder", "status", "error", "cells": {name: {"title", "metrics"}}}]
    skipped    [{"name", "axes", "reason"}]
    work       [{"kind", "name", "hash", "folder", "status", "error", "cells": names, "seconds": {stage: s}}]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
from attrs import frozen

from accomp.core.evaluation import evaluate
from accomp.core.files import read_record, write_atomic
from accomp.core.generation import generate
from accomp.core.generation.latency import budget_of
from accomp.core.grid.work import CellWork, GridWork, Work
from accomp.core.registry import Registry
from accomp.core.runs.folder import versions
from accomp.core.runs.history import best_step, read_losses
from accomp.core.spec.build import space_of
from accomp.core.spec.grid_schema import Grid
from accomp.core.spec.parsing import plain
from accomp.core.spec.schema import Spec

FILE = "grid.json"
FORMAT = 1

Status = Literal["done", "running", "waiting", "failed", "blocked"]


@frozen
class State:
    """State of a piece of work; `error` in one line where it failed or is blocked."""

    status: Status
    error: str | None = None


WAITING = State("waiting")


class Ledger:
    """grid.json of one grid, rewritten at every change. Finished results are read once."""

    def __init__(self, work: GridWork, registry: Registry):
        self._work, self._registry = work, registry
        self._read: dict[str, Any] = {}

    def write(self, states: Mapping[str, State]) -> None:
        """Write the states of the work, by key, and the results in its folders."""
        text = json.dumps(self.content(states), indent=1, allow_nan=False)
        write_atomic(self._work.grid.folder / FILE, text + "\n")

    def content(self, states: Mapping[str, State]) -> dict[str, Any]:
        """Return the whole content; work without a state is "waiting"."""
        grid, pieces = self._work.grid, self._work.pieces.values()
        done = {piece.key: piece.record() for piece in pieces}
        rows = {key: attrs.asdict(states.get(key, WAITING)) for key in done}
        return {
            "format": FORMAT,
            "name": grid.name,
            "versions": versions(),
            "axes": axes_of(grid),
            "cells": [
                {
                    **self._cell(one),
                    **rows[one.judged.key],
                    "training": self._training(one.training, done),
                    **self._results(one.judged, done),
                }
                for one in self._work.cells
            ],
            "anchors": [
                {
                    **self._named(one),
                    **rows[one.key],
                    "cells": self._once(one, _anchors) if done[one.key] else None,
                }
                for one in pieces
                if one.kind == "anchors"
            ],
            "skipped": [attrs.asdict(one) for one in grid.skipped],
            "work": [
                {
                    "kind": one.kind,
                    "name": one.name,
                    **self._named(one),
                    **rows[one.key],
                    "cells": list(one.cells),
                    "seconds": (done[one.key] or {}).get("seconds", {}),
                }
                for one in pieces
            ],
        }

    def _named(self, work: Work) -> dict[str, str]:
        return {"hash": work.hash, "folder": self._relative(work.folder)}

    def _cell(self, one: CellWork) -> dict[str, Any]:
        spec = one.cell.spec
        return {
            "name": one.cell.name,
            "swept": one.cell.swept,
            "axes": one.cell.axes,
            "clock": clock_of(spec, self._registry),
            "objective": spec.objective.plugin,
            "sampler": spec.sampler.plugin,
            "guidance": spec.guidance,
            "seed": spec.seed,
            "generate": plain(spec.generate),
            "hashes": attrs.asdict(one.identity),
            "folder": self._relative(one.judged.folder),
            "model": self._relative(one.training.folder),
            "anchors": self._relative(one.anchors.folder) if one.anchors else None,
        }

    def _training(self, work: Work, done: Mapping[str, Any]) -> dict[str, Any] | None:
        """Read the records of a training so far."""

        def read(work: Work) -> dict[str, Any] | None:
            return training_of(work.folder, work.spec)

        return self._once(work, read) if done[work.key] else read(work)

    def _results(self, work: Work, done: Mapping[str, Any]) -> dict[str, Any]:
        """Read takes and numbers of a finished cell."""
        if not done[work.key]:
            return {"takes": None, "timing": None, "metrics": None}
        found: dict[str, Any] = self._once(work, lambda work: _results(work, self._registry))
        return found

    def _once(self, work: Work, read: Callable[[Work], Any]) -> Any:
        if work.key not in self._read:
            self._read[work.key] = read(work)
        return self._read[work.key]

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._work.grid.folder).as_posix()


def axes_of(grid: Grid) -> list[dict[str, Any]]:
    """Return the axes of a grid's sweep with the values of its cells, in order."""
    swept = [*(cell.axes for cell in grid.cells), *(cell.axes for cell in grid.skipped)]
    keys = list(dict.fromkeys(key for axes in swept for key in axes))
    found = []
    for key in keys:
        values: list[Any] = []
        for axes in swept:
            if key in axes and axes[key] not in values:
                values.append(axes[key])
        found.append({"key": key, "label": key.rpartition(".")[2], "values": values})
    return found


def clock_of(spec: Spec, registry: Registry) -> dict[str, Any] | None:
    """Return t_f and k in frames and seconds; None for a model without a clock."""
    if spec.clock is None:
        return None
    space = space_of(spec, registry)
    frame = space.hop / space.sample_rate
    both = {"t_f": spec.clock.t_f, "k": spec.clock.k}
    times = {name: {"frames": value, "seconds": round(value * frame, 9)} for name, value in both.items()}
    return {**times, "frame_seconds": frame}


def training_of(folder: Path, spec: Spec) -> dict[str, Any] | None:
    """Summarise a training's records; None before its first validation."""
    records = read_losses(folder)
    if not (best := best_step(folder)):
        return None
    of_step = [record for record in records if record["kind"] == "validation" and record["step"] == best]
    unigram = [record for record in records if record["kind"] == "unigram"]
    return {
        "steps": max(record["step"] for record in records),
        "step_seconds": step_seconds(folder, spec),
        "best_step": best,
        "validation": of_step[-1],
        "unigram": unigram[-1] if unigram else None,
    }


def step_seconds(folder: Path, spec: Spec) -> float | None:
    """Return the median seconds of an optimizer step, including validations and checkpoints; None without records."""
    rates = [record["clips_per_second"] for record in read_losses(folder) if record["kind"] == "train"]
    clips = spec.train.batch * spec.train.accumulate
    return clips / float(np.median(rates)) if rates and min(rates) > 0 else None


def timing_of(takes: list[dict[str, Any]], spec: Spec, registry: Registry) -> dict[str, Any] | None:
    """Return the speed of the takes, that of the slowest one; `takes`: content of their take.json."""
    timings = [take["timings"] for take in takes]
    if not timings:
        return None
    step = None
    if spec.clock is not None:
        times = np.concatenate([one["step_ms"] for one in timings])
        parts = [one["parts"] for one in timings]
        budget = budget_of(spec.clock, space_of(spec, registry), parts)
        step = {
            "limit_ms": spec.clock.k * timings[0]["frame_ms"],
            "median_ms": float(np.median(times)),
            "p99_ms": float(np.quantile(times, 0.99)),
            "max_ms": float(times.max()),
            "parts": {name: max(one[name] for one in parts) for name in parts[0]},
            "required_ms": 1000 * budget.required,
            "available_ms": 1000 * budget.available,
            "load": budget.load,
            "deployable": budget.deployable,
            "nearest_t_f": budget.nearest_t_f,
            "verdict": budget.verdict(),
        }
    return {
        "device": timings[0]["device"],
        "real_time_factor": max(one["real_time_factor"] for one in timings),
        "step": step,
    }


def _results(work: Work, registry: Registry) -> dict[str, Any]:
    """Read takes, their timing and the numbers of a finished cell."""
    takes_record = _json(work.folder / generate.RECORD)
    takes = [_json(work.folder / "takes" / id / "take.json") for id in takes_record["takes"]]
    (scores,) = _json(work.folder / evaluate.RECORD)["cells"].values()
    return {
        "takes": {"made": len(takes), "failed": takes_record["failed"], "ids": takes_record["takes"]},
        "timing": timing_of(takes, work.spec, registry),
        "metrics": {name: _numbers(one) for name, one in scores["metrics"].items()},
    }


def _anchors(work: Work) -> dict[str, Any]:
    cells = _json(work.folder / evaluate.RECORD)["cells"]
    return {
        name: {"title": cell["title"], "metrics": {key: _numbers(one) for key, one in cell["metrics"].items()}}
        for name, cell in cells.items()
    }


def _numbers(metric: Mapping[str, Any]) -> dict[str, Any]:
    """Return a metric's record without single takes."""
    counted = {name: len(metric[name]) for name in ("empty", "failed") if name in metric}
    return {**{key: value for key, value in metric.items() if key != "takes"}, **counted}


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON file. Raises DataError for one that was removed or damaged since its work was done."""
    return read_record(path, "remove the folder, and the grid makes it again")
