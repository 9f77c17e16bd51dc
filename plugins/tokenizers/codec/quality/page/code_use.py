"""Codes in use, level by level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from accomp.plugin.pages import (
    Bars,
    Html,
    bar_chart,
    table,
    tag,
)
from accomp.plugins.tokenizers.codec.quality.comparison import STEMS
from accomp.plugins.tokenizers.codec.quality.excerpts import FILES, MIXES
from accomp.plugins.tokenizers.codec.quality.page.figures import OF_LEVELS, cell


def code_use(codecs: Sequence[dict[str, Any]]) -> list[Html]:
    found = []
    for codec in codecs:
        size, levels = codec["space"]["codebook_size"], range(1, codec["space"]["codebooks"] + 1)
        for group, one in codec["groups"].items():
            if group not in (MIXES, FILES, STEMS):
                continue
            figures = one["figures"]
            title = f"{codec['label']}, {group.lower()}: {one['frames']:,} frames"
            used, effective = (
                [100 * figures[f"{name}_{q}"]["value"] / size for q in levels] for name in ("codes_used", "perplexity")
            )
            bars = [
                Bars(f"codes used, % of {size}", used, "quiet"),
                Bars("perplexity, % of the same", effective, "accent"),
            ]
            chart = bar_chart(title, [f"level {q}" for q in levels], bars, y="%", top=100.0)
            shown_of_levels = [name for name in OF_LEVELS if f"{name}_1" in figures]
            rows = [
                [f"level {q}", *(cell(figures[f"{name}_{q}"], OF_LEVELS[name][1]) for name in shown_of_levels)]
                for q in levels
            ]
            head = ["", *(OF_LEVELS[name][0] for name in shown_of_levels)]
            numbers = table(
                head, rows, caption=f"Level by level; {size} equally likely codes: {math.log(size):.2f} nats"
            )
            bits, nominal = figures["bitrate_entropy"], codec["bitrate"]
            span = "" if bits["low"] is None else f" ({bits['low'] / 1000:.2f} to {bits['high'] / 1000:.2f})"
            text = (
                f"Bit rate by entropy {bits['value'] / 1000:.2f} kbit/s{span}, {100 * bits['value'] / nominal:.0f} % "
                f"of the nominal {nominal / 1000:.2f}; {one['excerpts']} excerpts, {one['seconds']:.0f} s."
            )
            if "prediction" in codec:
                learnt = codec["prediction"]
                each = [sum(figures[f"{name}_{q}"]["value"] for q in levels) for name in ("predicted", "frequency")]
                text += (
                    f" Predicted: {each[0]:.2f} nats a frame, {each[1]:.2f} by frequencies alone, after "
                    f"{learnt['steps']} steps on {learnt['seconds'] / 60:.0f} minutes of other music."
                )
            if one["frames"] < 10 * size:
                text += f" {one['frames']:,} frames are few for {size} codes: use and perplexity would rise with more."
            shown = [chart, tag("p", text, class_="note"), tag("details", tag("summary", "Level by level"), numbers)]
            found.append(tag("div", shown, class_="card"))
    return found
