"""Scores against future visibility: one curve for each chunk size, other models and the anchors as lines."""

from __future__ import annotations

from collections.abc import Sequence

from accomp.core.comparison.entries import Entry, Number, headlines, numbers
from accomp.core.pages.charts import Curve, Interval, Rule, interval_chart, line_chart
from accomp.core.pages.html import Html, tag

CURVES = ("accent", "second", "third", "fourth", "fifth", "sixth")
LINES = ("fourth", "fifth", "sixth", "quiet")


def curves(entries: Sequence[Entry]) -> list[Html]:
    """Return a chart for each metric's first number, and its other numbers folded."""
    main = headlines(entries)
    found = [_card(entries, metric, number) for metric, number in main]
    more = [
        _card(entries, metric, number)
        for metric, names in numbers(entries).items()
        for number in names
        if (metric, number) not in main
    ]
    shown = [card for card in found if card is not None]
    if folded := [card for card in more if card is not None]:
        shown.append(tag("details", tag("summary", f"{len(folded)} more numbers"), folded))
    return shown or [tag("p", "Nothing evaluated yet.", class_="note")]


def chunk_sizes(entries: Sequence[Entry]) -> list[float]:
    """Return k (s) of the streaming models, ascending."""
    return sorted({entry.k for entry in entries if entry.k is not None})


def named_k(k: float) -> str:
    """Return a chunk size (s) for people."""
    return f"k = {k:g} s"


def _card(entries: Sequence[Entry], metric: str, number: str) -> Html | None:
    """Curves where at least two models lie at different t_f, else a row for each model."""
    plain = [entry for entry in entries if entry.kind == "streaming" and not entry.variant]
    others = [entry for entry in entries if entry.kind != "streaming"]
    lines = [line for i, k in enumerate(chunk_sizes(plain)) if (line := _line(plain, k, i, metric, number))]
    if len({x for line in lines for x, _ in line.points}) < 2:
        return _rows(entries, metric, number)
    valued = [(entry, value) for entry in others if (value := entry.number(metric, number))]
    rules = [
        Rule(f"{entry.name} {value['value']:.3g}", value["value"], LINES[i % len(LINES)], i // len(LINES) % 2 == 1)
        for i, (entry, value) in enumerate(valued)
    ]
    title = f"{_describe(metric, number)} against future visibility"
    return tag("div", line_chart(title, lines, rules, x="t_f, seconds of input beyond the output's start", y=number),
               class_="card")  # fmt: skip


def _line(entries: Sequence[Entry], k: float, i: int, metric: str, number: str) -> Curve | None:
    of_k = sorted((entry for entry in entries if entry.k == k), key=lambda entry: entry.t_f or 0.0)
    found = [(entry.t_f or 0.0, value) for entry in of_k if (value := entry.number(metric, number))]
    if not found:
        return None
    points = [(t_f, value["value"]) for t_f, value in found]
    ranges = [(t_f, value["low"], value["high"]) for t_f, value in found if value["low"] is not None]
    return Curve(named_k(k), points, CURVES[i % len(CURVES)], dots=True, ranges=ranges)


def _rows(entries: Sequence[Entry], metric: str, number: str) -> Html | None:
    rows = [_interval(entry, value) for entry in entries if (value := entry.number(metric, number))]
    if not rows:
        return None
    low, high = min(0.0, *(row.low for row in rows)), max(row.high for row in rows)
    chart = interval_chart(f"{_describe(metric, number)}: value and 95 % interval", rows, x=number,
                           low=low, high=high if high > low else low + 1)  # fmt: skip
    return tag("div", chart, class_="card")


def _interval(entry: Entry, value: Number) -> Interval:
    style = {"streaming": "accent", "offline": "fifth", "anchor": "third"}[entry.kind]
    at = value["value"]
    low, high = (at if value[end] is None else value[end] for end in ("low", "high"))
    return Interval(entry.name, at, low, high, style)


def _describe(metric: str, number: str) -> str:
    return number if number.startswith(metric) else f"{metric}: {number}"
