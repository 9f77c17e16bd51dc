"""Figures with their 95 % bootstrap intervals over excerpts.

A figure is a function of weights w [R, n], how often each of n excerpts counts, and gives one value a row. Weights of
ones give the figure itself, resampled weights its spread.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from attrs import frozen

RESAMPLES = 1000
_SEED = 0

Estimate = Callable[[np.ndarray], np.ndarray]
"""weights [R, n] -> values [R]"""


@frozen
class Figure:
    """A value, the ends of its interval (None with fewer than two excerpts), and the number of excerpts."""

    value: float
    low: float | None
    high: float | None
    n: int


def figure(estimate: Estimate, n: int, *, pooled: bool = False) -> Figure:
    """A figure over n excerpts, at least one, with its interval.

    The interval is that of the percentiles. `pooled`: the value plus and minus 1.96 standard deviations of the draws
    instead, for counts of distinct codes: a draw lacks some excerpts, and with them codes, so its counts lie below.
    """
    value = float(estimate(np.ones((1, n)))[0])
    if n < 2:
        return Figure(value, None, None, n)
    drawn = estimate(np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64))
    if pooled:
        spread = 1.96 * float(np.std(drawn))
        return Figure(value, value - spread, value + spread, n)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure(value, float(low), float(high), n)


def mean(values: np.ndarray) -> Estimate:
    """values [n] -> their weighted mean."""
    return lambda w: w @ values / w.sum(axis=1)


def ratio(above: np.ndarray, below: np.ndarray, power: float = 1.0) -> Estimate:
    """[n] and [n] -> (sum of the one / sum of the other) ** power; 0 where the other is zero."""
    return lambda w: ((w @ above) / np.maximum(w @ below, 1e-12)) ** power


def decibels(estimate: Estimate) -> Estimate:
    """An amplitude's estimate -> 20 log10 of it; -200 for zero."""
    return lambda w: 20 * np.log10(np.maximum(estimate(w), 1e-10))


def codes_used(counts: np.ndarray) -> Estimate:
    """counts [n, C], how often each code occurs in each excerpt -> number of distinct codes."""
    return lambda w: ((w @ counts) > 0).sum(axis=1).astype(np.float64)


def entropy(counts: np.ndarray) -> Estimate:
    """counts [n, C] -> entropy of the code frequencies, in bits."""

    def bits(w: np.ndarray) -> np.ndarray:
        total = w @ counts
        share = total / np.maximum(total.sum(axis=1, keepdims=True), 1)
        return -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)

    return bits


def perplexity(counts: np.ndarray) -> Estimate:
    """counts [n, C] -> 2 ** entropy: the effective number of codes."""
    bits = entropy(counts)
    return lambda w: 2 ** bits(w)
