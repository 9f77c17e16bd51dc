"""Text summary of the records of scored clip sets."""

from __future__ import annotations

from typing import Any


def summary(record: dict[str, Any]) -> list[str]:
    """Format the content of metrics.json, one line for each clip set and metric."""
    lines = []
    for cell in record["cells"].values():
        for name, one in cell["metrics"].items():
            numbers = ", ".join(f"{key} {_describe(value)}" for key, value in one["numbers"].items())
            counts = (
                f"{one['scored']} scored, {len(one['empty'])} empty, {len(one['failed'])} failed, "
                f"{len(cell['left_out'])} left out"
            )
            lines.append(f"{name}, {cell['title']}: {numbers or why_none(one)} ({counts})")
    return lines


def why_none(metric: dict[str, Any]) -> str:
    """Return the reason why a metric's record has no numbers."""
    if not metric["applies"]:
        return f"does not apply, its clips have no {' and no '.join(metric['needs'])}"
    return str(metric.get("why_none", "nothing"))


def _describe(number: dict[str, Any]) -> str:
    text = f"{number['value']:.3f}"
    return text if number["low"] is None else f"{text} [{number['low']:.3f}, {number['high']:.3f}]"
