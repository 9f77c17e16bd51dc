"""Fidelity of the codecs, over all music and by instrument class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accomp.plugin.pages import (
    Html,
    Interval,
    interval_chart,
    table,
    tag,
)
from accomp.plugins.tokenizers.codec.quality.comparison import STEMS
from accomp.plugins.tokenizers.codec.quality.excerpts import FILES, MIXES
from accomp.plugins.tokenizers.codec.quality.page.figures import FIGURES, cell

_STYLES = ("accent", "second", "third", "quiet")
_BY_CLASS = ("fad", "mel", "stft", "si_sdr_db", "level_db")


def overall(record: dict[str, Any]) -> list[Html]:
    codecs = record["codecs"]
    found = []
    for group in codecs[0]["groups"]:
        if group not in (MIXES, FILES, STEMS):
            continue
        each = [(one, one["groups"][group]["figures"]) for one in [*codecs, *record["calibration"]]]
        names = [name for name in FIGURES if any(name in figures for _, figures in each)]
        head = ["", *([FIGURES[name][0], " ", tag("small", FIGURES[name][1])] for name in names)]
        rows = [
            [codec["label"], *(cell(figures.get(name), FIGURES[name][2], n=True) for name in names)]
            for codec, figures in each
        ]
        vectors = record["codecs"][0]["groups"][group]["vectors"]
        note = (
            f"n: excerpts behind a figure. FAD: {vectors} vectors on either side; {record['embedding']['provenance']}."
        )
        parts = [table(head, rows, caption=group), tag("p", note, class_="note")]
        if len(codecs) > 1:
            marks = [
                Interval(codec["label"], one["value"], one["low"], one["high"], _STYLES[i % len(_STYLES)])
                for i, (codec, figures) in enumerate(each[: len(codecs)])
                if (one := figures["mel"])["low"] is not None
            ]
            if marks:
                high = 1.05 * max(mark.high for mark in marks)
                parts.append(
                    interval_chart("Mel distance, mean and interval", marks, x="mel distance", low=0, high=high)
                )
            parts.append(_ratios(codecs, record["mel_ratios"][group]))
        found.append(tag("div", parts, class_="card"))
    return found


def _ratios(codecs: Sequence[dict[str, Any]], ratios: Sequence[Sequence[dict[str, Any]]]) -> Html:
    labels = [codec["label"] for codec in codecs]
    rows = [
        [label, *("-" if i == j else cell(one, 3) for j, one in enumerate(row))]
        for i, (label, row) in enumerate(zip(labels, ratios, strict=True))
    ]
    return table(["", *labels], rows, caption="Mel distance, row over column, on the same excerpts")


def by_class(codecs: Sequence[dict[str, Any]]) -> list[Html]:
    classes = [group for group in codecs[0]["groups"] if group not in (MIXES, FILES, STEMS)]
    if not classes:
        return []
    found = []
    for name in _BY_CLASS:
        title, better, decimals = FIGURES[name]
        rows = []
        for group in classes:
            each = [codec["groups"][group]["figures"].get(name) for codec in codecs]
            n = next((one["n"] for one in each if one is not None), 0)
            rows.append([group, n, *(cell(one, decimals) for one in each)])
        head = ["", "excerpts", *(codec["label"] for codec in codecs)]
        found.append(tag("div", table(head, rows, caption=f"{title} ({better})"), class_="card"))
    return found
