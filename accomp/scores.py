"""How well a run plays: metrics on its takes, beside the anchors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from accomp.core.errors import UserError
from accomp.core.names import nearest

if TYPE_CHECKING:
    import pandas

    from accomp.core.spec.schema import Spec


class Scores(Mapping[str, float]):
    """The numbers of an evaluation: a mapping of the model's, `scores["beat_f1"]`, beside those of the anchors.

    Attributes:
        record: The content of the run's metrics.json.
        rows: For each cell (the model, the anchors), metric and number a dict: "cell", "title", "metric", "number",
            "value", "low", "high" (95 % bootstrap interval, None where there is none), "scored".
    """

    def __init__(self, record: Mapping[str, Any]):
        self.record = record
        self.rows: list[dict[str, Any]] = [
            {
                "cell": key, "title": cell["title"], "metric": metric, "number": number, "value": value["value"],
                "low": value["low"], "high": value["high"], "scored": one["scored"],
            }
            for key, cell in record["cells"].items()
            for metric, one in cell["metrics"].items()
            for number, value in one["numbers"].items()
        ]  # fmt: skip
        first = next(iter(record["cells"]), "")
        cell = "model" if "model" in record["cells"] else first
        self._values: dict[str, float] = {row["number"]: row["value"] for row in self.rows if row["cell"] == cell}

    def __getitem__(self, number: str) -> float:
        """Raises KeyError, naming the nearest one, for a number that there is not."""
        if number not in self._values:
            raise KeyError(f"no score is called {number!r}{nearest(number, self._values, what='there are')}")
        return self._values[number]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def to_pandas(self) -> pandas.DataFrame:
        """Make a pandas.DataFrame of `rows`. Raises UserError where pandas is not installed."""
        try:
            import pandas
        except ModuleNotFoundError:
            raise UserError("a table needs pandas; run: pip install pandas, or use scores.rows") from None
        return pandas.DataFrame(self.rows)

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in self.items())
        return f"<Scores: {numbers or 'none'}>"


class RunFolder(Protocol):
    """A run, as far as its scores are concerned (`accomp.Run`)."""

    @property
    def folder(self) -> Path: ...


def evaluate(run: RunFolder | Spec, metrics: Sequence[str] | None = None) -> Scores:
    """Judge the takes of a run, and the anchors, with metrics; what is judged already is not judged again.

    Args:
        run: A run with takes (`accomp.generate`, `accomp generate SPEC`), or the spec of one.
        metrics: Names of metric plugins, with their settings in the spec where it has them; those of the spec where
            not given.

    Returns:
        The scores, as they stand in metrics.json of the run folder; in metrics.chosen.json where `metrics` are given.

    Raises:
        UserError: There are no takes, or those of another model or other settings; or a metric is not known.

    Example:
        >>> scores = accomp.evaluate(run, metrics=["beat_f1"])
        >>> scores["beat_f1"]
    """
    from accomp.core.evaluation.evaluate import CHOSEN, RECORD
    from accomp.core.spec.schema import Spec
    from accomp.experiment import own_spec, run_stages

    spec = run if isinstance(run, Spec) else own_spec(run.folder)
    if metrics is None:
        path = run_stages(spec, "evaluate") / RECORD
    else:
        path = Path(spec.run.folder) / CHOSEN
        _judge(with_metrics(spec, metrics), path)
    return Scores(json.loads(path.read_text(encoding="utf-8")))


def _judge(spec: Spec, path: Path) -> None:
    """Evaluate a spec with other metrics than the run folder's, whose spec and metrics.json stay as they are."""
    from accomp import catalog
    from accomp.core.console import say
    from accomp.core.evaluation.evaluate import evaluate
    from accomp.core.files import folder_lock
    from accomp.core.spec.build import check_combination

    registry, folder = catalog.registry(), path.parent
    check_combination(spec, registry)
    if not folder.is_dir():
        raise UserError(f"no such run folder; accomp.run_spec(spec) makes one @ {folder}")
    with folder_lock(folder, lambda who: say(f"{who} is at work in this run folder; waiting for it @ {folder}")):
        evaluate(spec, registry, folder, record=path.name)


def with_metrics(spec: Spec, metrics: Sequence[str]) -> Spec:
    """The spec with these metrics and no others. Raises UserError for one that is not installed."""
    from accomp import catalog
    from accomp.core.spec.schema import resolve, structure

    data = resolve(spec)
    known = {section["plugin"]: section for section in data["metric"]}
    sections = [known.get(name, {"plugin": name}) for name in metrics]
    return attrs.evolve(spec, metric=structure({**data, "metric": sections}, catalog.registry()).metric)
