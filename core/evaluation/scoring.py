"""Scores of clip sets by the metrics of a spec, with a record of scored, empty and failed clips."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from accomp.core.console import Advance
from accomp.core.data.excerpts import Failure, keyed
from accomp.core.errors import DataError, EmptyClip, UserError, WorkError
from accomp.core.evaluation.clip_sets import ClipSet
from accomp.core.evaluation.clips import Hearing, PreparedClip
from accomp.core.evaluation.intervals import measured
from accomp.core.interfaces import Metric
from accomp.core.music.instruments import CLASSES
from accomp.core.registry import Registry
from accomp.core.spec.build import build_metrics, space_of
from accomp.core.spec.schema import Spec, resolve
from accomp.core.trouble import raise_trouble

RECORD_VERSION = 3
"""Version of a clip set's record; records of another version are computed again."""


class Scorer:
    """The metrics of a spec, ready for one clip set after another."""

    def __init__(self, spec: Spec, registry: Registry, cache: Path):
        """cache: folder in which metrics may keep expensive results."""
        self._spec, self._registry, self._cache = spec, registry, cache
        self._space = space_of(spec, registry)
        self._hearing = Hearing(self._space.sample_rate, spec.generate.prompt * self._space.hop, spec.evaluate.loudness)
        self._metrics = self._build()
        self._used = False

    def identity(self, cell: ClipSet) -> str:
        """Return everything that the numbers of a clip set depend on."""
        metrics = json.dumps(resolve(self._spec)["metric"], sort_keys=True)
        return f"{cell.identity()} {metrics} {self._spec.seed} {self._hearing} {RECORD_VERSION}"

    def cell(self, cell: ClipSet, advance: Advance) -> dict[str, Any]:
        """Score all clips of a set. Raises WorkError for a metric that returns NaN or Inf."""
        outcomes = {name: _Outcomes(metric) for name, metric in self._fresh().items()}
        for clip in cell.clips:
            prepared = PreparedClip(clip, cell, self._hearing)
            for outcome in outcomes.values():
                outcome.count(clip.id, CLASSES[clip.instrument], prepared)
            advance(1, note=f"{cell.title}: {clip.id}")
        return {
            "title": cell.title,
            "clips": len(cell.clips),
            "left_out": plain(cell.left_out),
            "metrics": {name: self._record(cell, name, outcome) for name, outcome in outcomes.items()},
        }

    def _build(self) -> dict[str, Metric]:
        metrics = build_metrics(self._spec, self._space, self._registry)
        for metric in metrics.values():
            if hasattr(metric, "cache_in"):
                metric.cache_in(self._cache)
        return metrics

    def _fresh(self) -> dict[str, Metric]:
        """Return empty metrics; one with `fresh()` keeps its loaded resources."""
        if self._used:
            again = self._build()
            self._metrics = {
                name: metric.fresh() if hasattr(metric, "fresh") else again[name]
                for name, metric in self._metrics.items()
            }
        self._used = True
        return self._metrics

    def _record(self, cell: ClipSet, name: str, outcome: _Outcomes) -> dict[str, Any]:
        metric, takes = outcome.metric, outcome.metric.per_take()

        def over(part: str, ids: Sequence[str]) -> dict[str, Any]:
            rng = keyed(self._spec.seed, "interval", cell.name, name, part)
            try:
                numbers = measured(metric, ids, rng) if ids else {}
            except ValueError as error:
                return {"scored": len(ids), "numbers": {}, "why_none": str(error)}
            for number, found in numbers.items():
                values = [found["value"], *(takes[id][number] for id in ids if number in takes.get(id, {}))]
                if not all(map(math.isfinite, values)):
                    text = f"metric {name!r} gave {found['value']} for {number} of the {cell.title} clips"
                    raise WorkError(f"{text}; expected a number")
            return {"scored": len(ids), "numbers": numbers}

        classes = [label for label in CLASSES if label in outcome.scored.values()]
        return {
            "provenance": getattr(metric, "provenance", ""),
            "best": dict(metric.best),
            "answers": dict(getattr(metric, "answers", {})),
            **over("", list(outcome.scored)),
            "empty": plain(outcome.empty),
            "failed": plain([*outcome.failed, *(outcome.lacking if outcome.applies else ())]),
            "applies": outcome.applies,
            "needs": sorted(outcome.needs),
            "classes": {label: over(label, outcome.of_class(label)) for label in classes},
            "takes": takes,
        }


@define
class _Outcomes:
    """Outcome of the clips for one metric.

    Attributes:
        scored: id -> instrument class, by name.
        lacking: clips without the data that the metric needs.
        carrying: True where at least one clip has it.
    """

    metric: Metric
    scored: dict[str, str] = field(factory=dict)
    empty: list[Failure] = field(factory=list)
    failed: list[Failure] = field(factory=list)
    lacking: list[Failure] = field(factory=list)
    carrying: bool = False

    @property
    def needs(self) -> frozenset[str]:
        return getattr(self.metric, "needs", frozenset())

    @property
    def applies(self) -> bool:
        return self.carrying or not self.lacking

    def of_class(self, label: str) -> list[str]:
        return [id for id, of in self.scored.items() if of == label]

    def count(self, id: str, label: str, prepared: PreparedClip) -> None:
        try:
            take = prepared.by(self.metric)
            if missing := sorted(need for need in self.needs if getattr(take, need) is None):
                self.lacking.append(Failure(id, f"the clip has no {' and no '.join(missing)}"))
                return
            self.carrying = True
            self.metric.update(take)
            self.scored[id] = label
        except Exception as error:
            raise_trouble(error)  # a system fault is no result
            self._note(id, error)

    def _note(self, id: str, error: Exception) -> None:
        """Count a clip that could not be scored. Re-raises errors that are not caused by the clip, such as a missing
        library.
        """
        if isinstance(error, EmptyClip):
            self.empty.append(Failure(id, str(error)))
        elif isinstance(error, WorkError) or (isinstance(error, UserError) and not isinstance(error, DataError)):
            raise error
        else:
            expected = isinstance(error, DataError | ValueError)
            self.failed.append(Failure(id, str(error) if expected else f"{type(error).__name__}: {error}"))


def plain(failures: Sequence[Failure]) -> list[dict[str, str]]:
    """Convert to the form of a record."""
    return [{"clip": failure.clip, "reason": failure.reason} for failure in failures]
