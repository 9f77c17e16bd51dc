"""Intervals cover as they should, whether a number is a mean or not, and the quick way equals the long one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from accomp.core.evaluation.intervals import FEWEST_GROUPS, bootstrap, jackknife, measured


class Values:
    """A metric of given values, with numbers that are means and numbers that are not."""

    def __init__(self, values: np.ndarray):
        self.values = {f"{i:04d}": float(value) for i, value in enumerate(values)}
        self.asked = 0

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        self.asked += 1
        values = np.array([self.values[id] for id in (self.values if takes is None else takes)])
        return {"mean": float(values.mean()), "variance": float(values.var()), "median": float(np.median(values))}

    def per_take(self) -> dict[str, dict[str, float]]:
        return {id: {"mean": value, "variance": value, "median": value} for id, value in self.values.items()}


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = {"bootstrap": 0, "jackknife": 0, "median": 0}
    for _ in range(200):
        metric = Values(rng.normal(0.5, 0.2, 30))
        ids, values = list(metric.values), metric.result()
        found: dict[str, Any] = bootstrap(metric.result, values, ids, metric.per_take(), rng, 200)
        covered["bootstrap"] += found["mean"][0] <= 0.5 <= found["mean"][1]
        covered["median"] += found["median"][0] <= 0.5 <= found["median"][1]
        low, high = jackknife(metric.result, values, ids, rng)["mean"]  # type: ignore[misc]
        covered["jackknife"] += low <= 0.5 <= high
    assert all(175 <= count <= 199 for count in covered.values()), covered


def test_a_mean_is_resampled_quickly_and_just_as_through_the_metric() -> None:
    metric = Values(np.random.default_rng(1).uniform(size=40))
    ids, values = list(metric.values), metric.result()
    quick = bootstrap(metric.result, {"mean": values["mean"]}, ids, metric.per_take(), np.random.default_rng(2), 300)
    assert metric.asked == 3
    slow = bootstrap(metric.result, {"mean": values["mean"]}, ids, {}, np.random.default_rng(2), 300)
    assert metric.asked == 303
    assert quick["mean"] == pytest.approx(slow["mean"])
    low, high = quick["mean"]  # type: ignore[misc]
    error = np.std(list(metric.values.values())) / np.sqrt(40)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_what_is_a_mean_only_by_chance_is_not_taken_for_one() -> None:
    """Over all takes median and mean agree; the interval must be the median's all the same."""
    metric = Values(np.array([0.0, 0.0, 0.0, 0.4, 0.5, 0.6, 1.0, 1.0, 1.0]))
    values = metric.result()
    assert values["mean"] == values["median"]
    found = bootstrap(metric.result, values, list(metric.values), metric.per_take(), np.random.default_rng(0), 500)
    assert found["median"] is not None
    assert found["mean"] is not None
    assert found["median"][1] - found["median"][0] > 1.3 * (found["mean"][1] - found["mean"][0])


def test_too_few_takes_give_a_value_without_an_interval() -> None:
    one = measured(Values(np.array([0.3])), ["0000"], np.random.default_rng(0))  # type: ignore[arg-type]
    assert one["mean"] == {"value": 0.3, "low": None, "high": None}
    metric = Values(np.arange(FEWEST_GROUPS - 1.0))
    few = jackknife(metric.result, metric.result(), list(metric.values), np.random.default_rng(0))
    assert few == {"mean": None, "variance": None, "median": None}

    def of_four_different(takes: Sequence[str]) -> dict[str, float]:
        if len(set(takes)) < 4:
            raise ValueError("four at least")
        return {"count": float(len(set(takes)))}

    rng, ids = np.random.default_rng(0), list("abcd")
    assert bootstrap(of_four_different, {"count": 4.0}, ids, {}, rng, 50) == {"count": None}


def test_the_jackknife_is_asked_for_and_its_spread_is_that_of_the_mean() -> None:
    metric = Values(np.random.default_rng(3).normal(size=200))
    metric.interval = "jackknife"  # type: ignore[attr-defined]
    found = measured(metric, list(metric.values), np.random.default_rng(0))["mean"]  # type: ignore[arg-type]
    assert metric.asked == 21
    error = np.std(list(metric.values.values())) / np.sqrt(200)
    assert found["high"] - found["value"] == pytest.approx(found["value"] - found["low"])
    assert found["high"] - found["value"] == pytest.approx(2.09 * error, rel=0.5)


def test_the_order_of_takes_changes_nothing() -> None:
    metric = Values(np.random.default_rng(4).uniform(size=12))
    ids = list(metric.values)
    forwards, backwards = (measured(metric, some, np.random.default_rng(0)) for some in (ids, ids[::-1]))  # type: ignore[arg-type]
    assert forwards == backwards
