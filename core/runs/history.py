"""Losses of a run: losses.jsonl, one JSON object a line, append-only, in step order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from accomp.core.errors import DataError
from accomp.core.files import write_atomic
from accomp.core.trouble import named

FILE = "losses.jsonl"
NATS = "nats a token"
"""Unit of the losses, unless the objective has another one."""


def append_losses(run: Path, kind: str, step: int, numbers: dict[str, Any]) -> None:
    """Append a record: `kind` ("train", "validation", "unigram") after `step` optimizer steps. Synced to disk on
    return.
    """
    with named(run / FILE), (run / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": kind, "step": step, **numbers}, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_losses(run: Path) -> list[dict[str, Any]]:
    """Read all records; empty where there are none yet. A truncated last line (the process was killed) is dropped.

    Raises DataError for any other invalid line.
    """
    path = run / FILE
    if not path.exists():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")  # the part after the last newline is empty
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            records.append({"kind": str(record["kind"]), "step": int(record["step"]), **record})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"not a record of losses: {line[:60]!r} @ {path}:{number}; move the file away") from error
    return records


def unit_of(records: list[dict[str, Any]]) -> str:
    """Return the unit of the losses of a run."""
    return next((str(record["unit"]) for record in records if "unit" in record), NATS)


def rewind_losses(run: Path, step: int) -> None:
    """Remove all records after `step`, and a truncated last line, so that a resumed run has no duplicates."""
    if (run / FILE).exists():
        remaining = [record for record in read_losses(run) if record["step"] <= step]
        write_atomic(run / FILE, "".join(json.dumps(record) + "\n" for record in remaining))


def best_step(run: Path) -> int | None:
    """Return the step with the lowest validation loss.

    None where there was no validation after training, and where the objective selects the newest checkpoint instead.
    """
    found = [record for record in read_losses(run) if record["kind"] == "validation" and record["step"] > 0]
    if any(record.get("judged_by") == "newest" for record in found):
        return None
    return min(found, key=lambda record: record["loss"])["step"] if found else None
