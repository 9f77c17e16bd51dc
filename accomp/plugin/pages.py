"""HTML pages with players, spectrograms and charts, for commands."""

from __future__ import annotations

from accomp.core.pages.charts import Bars, Interval, bar_chart, interval_chart
from accomp.core.pages.document import document
from accomp.core.pages.html import Html, table, tag
from accomp.core.pages.players import player
from accomp.core.pages.sound import RANGE, SPREAD, difference_data, lossless_data, spectrogram_data

__all__ = [
    "RANGE",
    "SPREAD",
    "Bars",
    "Html",
    "Interval",
    "bar_chart",
    "difference_data",
    "document",
    "interval_chart",
    "lossless_data",
    "player",
    "spectrogram_data",
    "table",
    "tag",
]
