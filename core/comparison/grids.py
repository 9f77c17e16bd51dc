"""The report of a grid: a comparison of its finished cells, read from grid.json and the folders in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accomp.core.comparison.blind import Answer
from accomp.core.comparison.entries import Entry, Latency, anchor_entries, distinct
from accomp.core.comparison.page import Comparison
from accomp.core.files import read_record
from accomp.core.report.data import read_run

RECORD = "grid.json"
FAILED = ("failed", "blocked")


def grid_comparison(folder: Path, answers: list[Answer] | None = None) -> Comparison:
    """Return the content of a grid's page. Raises DataError where the grid or a record is missing or unreadable."""
    record = _read(folder / RECORD)
    cells = [_cell(cell, folder) for cell in record["cells"]]
    entries = [entry for entry in cells if entry is not None]
    anchors = [entry for anchor in record["anchors"] for entry in _anchors(anchor, folder)]
    return Comparison(
        f"Grid {record['name']}", [*distinct(entries), *distinct(anchors)], tuple(_notes(record)), tuple(answers or ())
    )


def _notes(record: Mapping[str, Any]) -> Iterator[str]:
    """The conditions of the figures, and the cells that are missing."""
    cells = record["cells"]
    done = [cell for cell in cells if cell["status"] == "done"]
    yield f"{len(done)} of {len(cells)} cells are done; {len(record['skipped'])} were left out by the grid's own rules."
    trained = {cell["model"]: cell["training"] for cell in done if cell["training"]}
    if trained:
        steps = sorted({one["steps"] for one in trained.values()})
        told = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
        yield f"{len(trained)} models, trained for {told} steps each; every score is over the takes of one seed."
    takes = sorted({len(cell["takes"]["ids"]) for cell in done if cell["takes"]})
    if takes:
        told = f"{takes[0]}" if len(takes) == 1 else f"{takes[0]} to {takes[-1]}"
        yield f"{told} takes a cell. Intervals are over clips, not over trainings."
    for skipped in record["skipped"]:
        yield f"Left out: {skipped['name']}: {skipped['reason']}"


def _cell(cell: Mapping[str, Any], folder: Path) -> Entry | None:
    """A cell that is done or has failed; None for one that has not run yet."""
    clock = cell["clock"]
    about: dict[str, Any] = {
        "name": cell["name"],
        "kind": "streaming" if clock else "offline",
        "t_f": clock["t_f"]["seconds"] if clock else None,
        "k": clock["k"]["seconds"] if clock else None,
        "variant": "" if cell["swept"] else cell["name"],
    }
    if cell["status"] in FAILED:
        return Entry(**about, why=cell["error"] or "no reason is known")
    if cell["status"] != "done":
        return None
    data = read_run(folder / cell["folder"])
    metrics = (data.metrics or {"cells": {}})["cells"].get("model", {}).get("metrics", {})
    return Entry(
        **about,
        metrics=metrics,
        takes=tuple(data.takes),
        latency=_latency(cell),
        losses=(cell["training"] or {}).get("validation") or {},
        left_out=tuple((data.made or {}).get("failed", ())),
    )


def _latency(cell: Mapping[str, Any]) -> Latency | None:
    timing = cell["timing"] or {}
    step, clock = timing.get("step"), cell["clock"]
    if not step or not clock:
        return None
    frame, nearest = clock["frame_seconds"], step["nearest_t_f"]
    return Latency(
        step["required_ms"] / 1000, step["available_ms"] / 1000, step["load"], step["deployable"],
        None if nearest is None else nearest * frame, frame, timing["device"],
    )  # fmt: skip


def _anchors(anchor: Mapping[str, Any], folder: Path) -> Iterator[Entry]:
    if anchor["status"] in FAILED:
        yield Entry(f"anchors {anchor['hash']}", "anchor", anchor="failed", why=anchor["error"] or "no reason is known")
    elif anchor["status"] == "done":
        yield from anchor_entries(_read(folder / anchor["folder"] / "metrics.json"))


def _read(path: Path) -> dict[str, Any]:
    missing = "no grid's record here; run `accomp grid SPEC` first"
    return read_record(path, "run `accomp grid SPEC` again", missing=missing)
