"""Reading numbers from metrics.json."""

from __future__ import annotations

from typing import Any

STYLES = {"model": "accent", "true_stem": "third", "random_pairing": "second", "codec": "quiet", "deaf": "faint"}
"""Cell of metrics.json -> the class of its colour."""


def judged_numbers(metrics: dict[str, Any]) -> list[tuple[str, str, float]]:
    """Return (metric, number, its best value) of every number for which a metric states its best value."""
    cell: dict[str, Any] = next(iter(metrics["cells"].values()), {"metrics": {}})
    return [(name, number, best) for name, one in cell["metrics"].items() for number, best in one["best"].items()]


def cell_number(metrics: dict[str, Any], cell: str, metric: str, number: str) -> dict[str, Any] | None:
    """Return {"value", "low", "high"} of a number in a cell; None where no clip was scored or the cell is missing."""
    if cell not in metrics["cells"]:
        return None
    found: dict[str, Any] | None = metrics["cells"][cell]["metrics"][metric]["numbers"].get(number)
    return found


def clip_numbers(metrics: dict[str, Any], cell: str, metric: str, number: str) -> dict[str, float]:
    """Return clip -> number; empty where the cell is missing or the number is over all clips together."""
    if cell not in metrics["cells"]:
        return {}
    takes = metrics["cells"][cell]["metrics"][metric]["takes"]
    return {id: numbers[number] for id, numbers in takes.items() if number in numbers}
