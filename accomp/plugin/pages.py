"""HTML pages with players, spectrograms and charts, for commands."""

from __future__ import annotations

from accomp.core.pages.charts import Bars, Interval, bar_chart, interval_chart
from accomp.core.pages.document import Section, document
from accomp.core.pages.html import Html, table, tag
from accomp.core.pages.players import folded_after, player, player_grid
from accomp.core.pages.sound import AXES, RANGE, SPREAD, difference_data, lossless_data, spectrogram_data

__all__ = [
    "AXES",
    "RANGE",
    "SPREAD",
    "Bars",
    "Html",
    "Interval",
    "Section",
    "bar_chart",
    "difference_data",
    "document",
    "folded_after",
    "interval_chart",
    "lossless_data",
    "player",
    "player_grid",
    "spectrogram_data",
    "table",
    "tag",
]
