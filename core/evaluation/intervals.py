"""Confidence intervals (95 %) over takes, by the bootstrap or by the jackknife."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accomp.core.interfaces import Metric

RESAMPLES = 2000
"""Bootstrap resamples of an interval, where a metric has no number of its own."""
GROUPS = 20
"""Groups of takes, each left out once, of a jackknife interval; with fewer takes, one by one."""
FEWEST_GROUPS = 4
"""Smallest number of groups for an interval."""

Interval = tuple[float, float] | None
Statistic = Callable[[Sequence[str]], dict[str, float]]
"""Numbers over takes by id; raises ValueError where there are none."""


def measured(metric: Metric, ids: Sequence[str], rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Return number -> its `value` over the takes `ids`, and the bounds `low` and `high` of its 95 % interval.

    The bounds are None for a single take, and where too few takes are left for a number in a resample. Raises
    ValueError where there are no numbers over these takes.
    """
    ids = sorted(ids)
    values = metric.result(ids)
    if getattr(metric, "interval", "bootstrap") == "jackknife":
        found = jackknife(metric.result, values, ids, rng)
    else:
        resamples = getattr(metric, "resamples", RESAMPLES)
        found = bootstrap(metric.result, values, ids, metric.per_take(), rng, resamples)
    numbers = {}
    for name, value in values.items():
        low, high = found[name] or (None, None)
        numbers[name] = {"value": float(value), "low": low, "high": high}
    return numbers


def bootstrap(
    statistic: Statistic,
    values: dict[str, float],
    ids: Sequence[str],
    takes: dict[str, dict[str, float]],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Compute percentiles 2.5 and 97.5 of the numbers over `resamples` samples of `ids` with replacement.

    `values` are the numbers over all of `ids`, and `takes` those of each alone: a number that is their mean is
    resampled as such, which is fast.
    """
    found: dict[str, Interval] = dict.fromkeys(values)
    if len(ids) < 2:
        return found
    draws = rng.integers(len(ids), size=(resamples, len(ids)))
    tried = [(np.arange(len(ids)), values), *((draw, _numbers(statistic, ids, draw)) for draw in draws[:2])]
    slow = []
    for name in values:
        each = np.array([takes.get(id, {}).get(name, math.nan) for id in ids])
        if all(math.isclose(numbers.get(name, math.nan), each[draw].mean(), rel_tol=1e-6, abs_tol=1e-9)
               for draw, numbers in tried):  # fmt: skip
            found[name] = _percentiles(each[draws].mean(axis=1))
        else:
            slow.append(name)
    if slow:
        drawn = [numbers for _, numbers in tried[1:]] + [_numbers(statistic, ids, draw) for draw in draws[2:]]
        for name in slow:
            found[name] = _percentiles([numbers.get(name, math.nan) for numbers in drawn])
    return found


def jackknife(
    statistic: Statistic, values: dict[str, float], ids: Sequence[str], rng: np.random.Generator
) -> dict[str, Interval]:
    """value +- t s, with s^2 = (G - 1) / G sum_g (v_g - mean v)^2 of the numbers v_g without the g-th group of takes.

    t is Student's 97.5 % quantile with G - 1 degrees of freedom.
    """
    groups = np.array_split(rng.permutation(len(ids)), min(len(ids), GROUPS))
    found: dict[str, Interval] = dict.fromkeys(values)
    if len(groups) < FEWEST_GROUPS:
        return found
    from scipy import stats  # imports for a second

    without = [_numbers(statistic, ids, np.setdiff1d(np.arange(len(ids)), group)) for group in groups]
    t = float(stats.t.ppf(0.975, len(groups) - 1))
    for name, value in values.items():
        left = np.array([numbers.get(name, math.nan) for numbers in without])
        half = t * math.sqrt((len(left) - 1) * left.var())
        found[name] = (float(value - half), float(value + half)) if math.isfinite(half) else None
    return found


def _numbers(statistic: Statistic, ids: Sequence[str], chosen: np.ndarray) -> dict[str, float]:
    try:
        return statistic([ids[i] for i in chosen])
    except ValueError:
        return {}


def _percentiles(values: np.ndarray | Sequence[float]) -> Interval:
    if not np.isfinite(values).all():
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
