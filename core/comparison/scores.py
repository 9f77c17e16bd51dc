"""Sortable tables of all numbers of all entries, over all clips and by instrument class; tests of differences."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np

from accomp.core.comparison.blind import differences_table
from accomp.core.comparison.entries import Entry, Number, headlines, numbers
from accomp.core.evaluation.statistics import differences, kruskal_wallis
from accomp.core.pages.html import Across, Html, table, tag


def scores(entries: Sequence[Entry]) -> list[Html]:
    """Return a row for each entry: its clock, each metric's first number with its interval, and counts."""
    columns = [(metric, number) for metric, names in numbers(entries).items() for number in names]
    main = headlines(entries)
    shown = [column for column in columns if column in main]
    rows = [_row(entry, shown) for entry in entries]
    head = ["", "kind", "t_f (s)", "k (s)", *(number for _, number in shown), "validation loss", "context gain",
            "clips scored", "empty", "failed", "left out"]  # fmt: skip
    found = [tag("div", _sortable(head, rows, "Scores: click a heading to sort"), class_="card")]
    if len(columns) > len(shown):
        every = [[entry.name, *(_value(entry.number(*column)) for column in columns)] for entry in entries]
        whole = _sortable(["", *(f"{number}" for _, number in columns)], every, "Every number")
        found.append(tag("details", tag("summary", f"All {len(columns)} numbers"), whole, class_="card"))
    by_class = [_classes(entries, metric, number) for metric, number in main]
    return found + [card for card in by_class if card is not None]


def tests(entries: Sequence[Entry], rng: np.random.Generator) -> list[Html]:
    """Test, number by number, whether the models differ and whether each differs from the anchors."""
    found = []
    for metric, number in headlines(entries):
        tables = {entry.name: entry.clips(metric, number) for entry in entries}
        models = [entry.name for entry in entries if entry.kind != "anchor" and tables[entry.name]]
        test = kruskal_wallis([list(tables[name].values()) for name in models])
        if test is None:
            continue
        others = [entry.name for entry in entries if entry.kind == "anchor" and tables[entry.name]]
        text = f"Kruskal-Wallis over {test.groups} models: H = {test.h:.2f}, p = {test.p:.3g}."
        parts: list[object] = [tag("h3", number), tag("p", text, class_="note")]
        for anchor in others:
            pairs = differences(tables, rng, pairs=[(name, anchor) for name in models])
            caption = f"{number} against {anchor}, on the same clips (Wilcoxon signed rank, Bonferroni)"
            parts.append(
                tag("details", tag("summary", f"Each model against {anchor}"), differences_table(pairs, caption))
            )
        found.append(tag("div", parts, class_="card"))
    return found or [tag("p", "Too few models or clips to test.", class_="note")]


def sorting() -> str:
    """Return the script that sorts tables."""
    return resources.files(__package__).joinpath("sortable.js").read_text(encoding="utf-8")


def _row(entry: Entry, columns: Sequence[tuple[str, str]]) -> list[object]:
    if entry.why:
        return [entry.name, entry.kind, _plain(entry.t_f), _plain(entry.k), Across(f"failed: {entry.why}")]
    gain, loss = entry.losses.get("context_gain"), entry.losses.get("loss")
    records = [entry.metrics.get(metric, {}) for metric, _ in columns]
    counts = [_span([len(record.get(what, ())) for record in records]) for what in ("empty", "failed")]
    scored = _span([record["scored"] for record in records if "scored" in record])
    values = [_value(entry.number(*column)) for column in columns]
    values += ["" if nats is None else f"{nats:.3f}" for nats in (loss, gain)]
    return [entry.name, entry.kind, _plain(entry.t_f), _plain(entry.k), *values, scored, *counts, len(entry.left_out)]


def _classes(entries: Sequence[Entry], metric: str, number: str) -> Html | None:
    """One number by instrument class."""
    tables = {entry.name: entry.metrics.get(metric, {}).get("classes", {}) for entry in entries}
    names = sorted({name for table in tables.values() for name in table})
    if not names:
        return None
    rows = [
        [entry, *(_value(found.get(name, {}).get("numbers", {}).get(number)) for name in names)]
        for entry, found in tables.items()
    ]
    whole = _sortable(["", *names], rows, f"{number} by instrument class")
    return tag("details", tag("summary", f"{number} by instrument class"), whole, class_="card")


def _sortable(head: Sequence[object], rows: Sequence[Sequence[object]], caption: str) -> Html:
    return tag("div", table(head, rows, caption=caption), class_="sortable")


def _value(number: Number | None) -> object:
    if number is None:
        return ""
    text = f"{number['value']:.3f}"
    if number["low"] is None:
        return text
    return [f"{text} ", tag("small", f"{number['low']:.2f} to {number['high']:.2f}", class_="span")]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _span(counts: Sequence[int]) -> str:
    """One count for all metrics, or the range."""
    if not counts:
        return ""
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
