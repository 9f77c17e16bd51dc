"""Judging: every metric on the takes and on the anchors, with what could not be judged by name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accomp.core import audio
from accomp.core.build import build_corpus, build_metrics, space_of
from accomp.core.console import Advance, progress, say
from accomp.core.errors import DataError, UserError, WorkError
from accomp.core.files import write_atomic
from accomp.core.interfaces import Metric
from accomp.core.registry import Registry
from accomp.core.runner import generate
from accomp.core.runner.cells import Cell, SongClip, TakeClip, anchor_cells, take_cell
from accomp.core.runner.computing import threads
from accomp.core.runner.excerpts import Failure, keyed
from accomp.core.runner.playing import playing_checkpoint, weights_hash
from accomp.core.spec import Spec, resolve
from accomp.core.types import Take

RECORD, PART = "metrics.json", "metrics.part.json"
RESAMPLES = 2000
"""Bootstrap resamples behind an interval."""


def evaluate(spec: Spec, registry: Registry, run: Path) -> None:
    """Judge the run's takes and the anchors with every metric of the spec, and write metrics.json.

    A cell that is judged already, from the same sound with the same metrics, is not judged again, so a killed
    evaluation goes on. Raises DataError where there are no takes, or takes of another model or with other settings;
    WorkError for a metric that gives no number.
    """
    made = _takes(spec, run)
    with threads(spec.run.threads):
        cells = [take_cell(run, made), *anchor_cells(spec, build_corpus(spec, registry))]
        judge = _Judge(spec, registry, made["sample_rate"])
        held = {**_held(run / RECORD), **_held(run / PART)}
        done: dict[str, Any] = {}
        with progress("evaluate", sum(len(cell.clips) for cell in cells)) as advance:
            for cell in cells:
                identity = judge.identity(cell)
                if held.get(cell.name, {}).get("identity") == identity:
                    done[cell.name] = {**held[cell.name], "left_out": _plain(cell.left_out)}
                    advance(len(cell.clips), note=f"{cell.title}: judged already")
                else:
                    done[cell.name] = {"identity": identity, **judge.cell(cell, advance)}
                    write_atomic(run / PART, json.dumps({"cells": done}, allow_nan=False))
    record = {"seed": spec.seed, "checkpoint": made["checkpoint"], "cells": done}
    write_atomic(run / RECORD, json.dumps(record, indent=1, allow_nan=False) + "\n")
    (run / PART).unlink(missing_ok=True)
    for line in summary(record):
        say(line)


def summary(record: dict[str, Any]) -> list[str]:
    """The content of metrics.json in a line for each cell and metric."""
    lines = []
    for cell in record["cells"].values():
        for name, one in cell["metrics"].items():
            numbers = ", ".join(f"{key} {_told(value)}" for key, value in one["numbers"].items())
            counts = f"{one['scored']} scored, {len(one['failed'])} failed, {len(cell['left_out'])} left out"
            lines.append(f"{name}, {cell['title']}: {numbers or 'nothing'} ({counts})")
    return lines


def interval(values: Sequence[float], rng: np.random.Generator) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean (percentiles of the means of resampled values)."""
    drawn = rng.choice(np.asarray(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


class _Judge:
    """The metrics of a spec, ready for one cell after another."""

    def __init__(self, spec: Spec, registry: Registry, rate: int):
        self._spec, self._registry, self._rate = spec, registry, rate
        self._space = space_of(spec, registry)
        self._metrics = build_metrics(spec, self._space, registry)
        self._used = False

    def identity(self, cell: Cell) -> str:
        """What a cell's numbers depend on."""
        return f"{cell.identity()} {json.dumps(resolve(self._spec)['metric'], sort_keys=True)} {self._spec.seed}"

    def cell(self, cell: Cell, advance: Advance) -> dict[str, Any]:
        """Judge all clips of a cell."""
        metrics = self._fresh()
        failed: dict[str, list[Failure]] = {name: [] for name in metrics}
        for clip in cell.clips:
            takes = _AtRates(clip, self._rate)
            for name, metric in metrics.items():
                try:
                    metric.update(takes.at(metric.sample_rate))
                except DataError as error:
                    failed[name].append(Failure(clip.id, str(error)))
                except UserError:
                    raise  # a metric without its library or weights is no fault of the clip
                except Exception as error:
                    reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                    failed[name].append(Failure(clip.id, reason))
            advance(1, note=f"{cell.title}: {clip.id}")
        return {
            "title": cell.title,
            "clips": len(cell.clips),
            "left_out": _plain(cell.left_out),
            "metrics": {name: self._record(cell, name, metric, failed[name]) for name, metric in metrics.items()},
        }

    def _fresh(self) -> dict[str, Metric]:
        """Metrics without takes. One that offers `fresh()` keeps what it has loaded and found out."""
        if self._used:
            again = build_metrics(self._spec, self._space, self._registry)
            self._metrics = {
                name: metric.fresh() if hasattr(metric, "fresh") else again[name]
                for name, metric in self._metrics.items()
            }
        self._used = True
        return self._metrics

    def _record(self, cell: Cell, name: str, metric: Metric, failed: list[Failure]) -> dict[str, Any]:
        scored = len(cell.clips) - len(failed)
        takes = metric.per_take()
        numbers = {}
        for number, value in (metric.result() if scored else {}).items():
            values = [takes[id][number] for id in sorted(takes) if number in takes[id]]
            if not all(map(math.isfinite, (value, *values))):
                raise WorkError(
                    f"metric {name!r} gave {value} for {number} of the {cell.title} clips; expected a number"
                )
            low = high = None
            if len(values) == scored > 1 and math.isclose(float(np.mean(values)), value, rel_tol=1e-6, abs_tol=1e-9):
                low, high = interval(values, keyed(self._spec.seed, "bootstrap", cell.name, name, number))
            numbers[number] = {"value": float(value), "low": low, "high": high}
        return {
            "provenance": getattr(metric, "provenance", ""),
            "best": dict(metric.best),
            "scored": scored,
            "failed": _plain(failed),
            "numbers": numbers,
            "takes": takes,
        }


class _AtRates:
    """A clip at the rates that metrics want, all made from the same sound at the codec's rate."""

    def __init__(self, clip: TakeClip | SongClip, rate: int):
        self._clip, self._rate = clip, rate
        self._takes: dict[int, Take] = {}

    def at(self, rate: int) -> Take:
        if self._rate not in self._takes:
            self._takes[self._rate] = self._clip.load(self._rate)
        if rate not in self._takes:
            take = self._takes[self._rate]
            context, stem = (audio.resample(sound, self._rate, rate) for sound in (take.context, take.stem))
            truth = None if take.truth is None else audio.resample(take.truth, self._rate, rate)
            self._takes[rate] = Take(take.id, context, stem, rate, take.instrument, truth)
        return self._takes[rate]


def _takes(spec: Spec, run: Path) -> dict[str, Any]:
    """takes.json, if its takes are what this spec and the run's model would give now."""
    path = run / generate.RECORD
    try:
        made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no takes to judge yet; run `accomp generate SPEC` first @ {path}") from error
    except ValueError as error:
        raise DataError(f"cannot read: {error}; run `accomp generate SPEC` again @ {path}") from error
    checkpoint = playing_checkpoint(run)
    if made["checkpoint"]["weights"] != weights_hash(checkpoint):
        raise DataError(
            f"the takes were made by the model of step {made['checkpoint']['step']}, the run's best is now that of "
            f"step {checkpoint.step}; run `accomp generate SPEC` again @ {path}"
        )
    if {"guidance": {}, **made["settings"]} != (now := generate.settings(spec)):
        raise DataError(f"the takes were made with {made['settings']}, the spec says {now}; run `accomp generate SPEC`")
    return made


def _held(path: Path) -> dict[str, Any]:
    """Cells that an earlier evaluation left; none where its file is not there or broken."""
    try:
        cells: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return cells


def _plain(failures: Sequence[Failure]) -> list[dict[str, str]]:
    return [{"clip": failure.clip, "reason": failure.reason} for failure in failures]


def _told(number: dict[str, Any]) -> str:
    text = f"{number['value']:.3f}"
    return text if number["low"] is None else f"{text} [{number['low']:.3f}, {number['high']:.3f}]"
