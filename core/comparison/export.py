"""The numbers of a comparison for other programs: CSV with a row for each number, and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import attrs

from accomp.core.comparison.entries import Entry

HEAD = ("entry", "kind", "variant", "t_f_s", "k_s", "metric", "number", "group", "value", "low", "high", "scored",
        "empty", "failed")  # fmt: skip


def as_csv(entries: Sequence[Entry]) -> str:
    """Return a row for each number of each entry: over all clips (group "all"), by class, and of each clip."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(HEAD)
    for entry in entries:
        about = [entry.name, entry.kind, entry.variant, entry.t_f, entry.k]
        for metric, record in entry.metrics.items():
            counts = [record.get("scored"), len(record.get("empty", ())), len(record.get("failed", ()))]
            for number, value in record["numbers"].items():
                rows.writerow([*about, metric, number, "all", *_ends(value), *counts])
            for name, group in record.get("classes", {}).items():
                for number, value in group["numbers"].items():
                    rows.writerow([*about, metric, number, f"class {name}", *_ends(value), group["scored"], "", ""])
            for clip, values in record.get("takes", {}).items():
                for number, value in values.items():
                    rows.writerow([*about, metric, number, f"clip {clip}", value, "", "", "", "", ""])
    return out.getvalue()


def as_json(entries: Sequence[Entry], findings: Sequence[Any]) -> str:
    """Return all numbers as JSON, with the findings and the latencies."""
    whole = {
        "entries": [
            {
                "name": entry.name, "kind": entry.kind, "variant": entry.variant, "t_f_s": entry.t_f, "k_s": entry.k,
                "why": entry.why, "losses": dict(entry.losses), "metrics": dict(entry.metrics),
                "left_out": [dict(one) for one in entry.left_out], "latency": _latency(entry),
                "takes": [str(take["folder"]) for take in entry.takes],
            }
            for entry in entries
        ],
        "findings": [{"claim": one.claim, "holds": one.holds, "evidence": one.evidence} for one in findings],
    }  # fmt: skip
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def _ends(value: Any) -> list[Any]:
    return [value["value"], *("" if value[end] is None else value[end] for end in ("low", "high"))]


def _latency(entry: Entry) -> dict[str, Any] | None:
    return None if entry.latency is None else attrs.asdict(entry.latency)
