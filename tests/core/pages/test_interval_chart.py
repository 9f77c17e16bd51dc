"""Charts of pages as numbers: where the marks are."""

import re

import pytest

from accomp.core.pages.charts import Interval, interval_chart


def marks(rows, low, high) -> list[float]:
    """Where the means are drawn."""
    chart = str(interval_chart("scores", rows, x="f", low=low, high=high))
    assert "nan" not in chart
    return [float(x) for x in re.findall(r'<circle[^>]*cx="([^"]+)"', chart)]


def test_means_lie_in_proportion():
    first, second, third = marks([Interval("a", mean, 0.0, 1.0, "mine") for mean in (0.0, 0.25, 1.0)], 0.0, 1.0)
    assert second - first == pytest.approx((third - first) / 4, abs=0.2)


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_scores_that_are_all_the_same_are_drawn_one_below_the_other(value):
    """So are those of a metric that gives 0 to a model that has learned nothing, and to all anchors."""
    same = [Interval(name, value, value, value, "mine") for name in ("model", "true stem")]
    first, second = marks(same, value, value)
    assert first == second > 0
