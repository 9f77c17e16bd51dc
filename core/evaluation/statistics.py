"""Significance tests of the papers' listening studies, and intervals of paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from attrs import frozen

RESAMPLES = 2000
"""Bootstrap resamples of an interval."""


def share_of_way(value: float, random: float, true: float) -> float:
    """Return how far a number is from random pairing (0) to the true stem (1), which differ."""
    return (value - random) / (true - random)


@frozen
class KruskalWallis:
    """Result of the Kruskal-Wallis test: H over `groups` groups, and p for the hypothesis of one common
    distribution.
    """

    h: float
    p: float
    groups: int


@frozen
class Difference:
    """Paired difference a minus b of two systems on the same clips.

    Attributes:
        clips: number of common clips.
        mean, low, high: of the differences, with the bootstrap 95 % interval over clips (None, None for one clip).
        p: of Wilcoxon's signed-rank test (two-sided), times the number of pairs that are tested together (Bonferroni),
            at most 1; None where all differences are zero or there is only one.
    """

    a: str
    b: str
    clips: int
    mean: float
    low: float | None
    high: float | None
    p: float | None


def kruskal_wallis(groups: Sequence[Sequence[float]]) -> KruskalWallis | None:
    """Run the test; None for fewer than two groups with values, or one value throughout."""
    filled = [group for group in groups if len(group)]
    if len(filled) < 2 or len({value for group in filled for value in group}) < 2:
        return None
    from scipy.stats import kruskal

    h, p = kruskal(*filled)
    return KruskalWallis(float(h), float(p), len(filled))


def differences(
    scores: Mapping[str, Mapping[str, float]],
    rng: np.random.Generator,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> list[Difference]:
    """Compare pairs of names (all of them where not given) in name -> clip -> score on the clips that both have.

    Pairs without a common clip are left out. p is corrected for the number of pairs that remain.
    """
    name_pairs = list(combinations(scores, 2)) if pairs is None else list(pairs)
    found = []
    for a, b in name_pairs:
        common = sorted(scores[a].keys() & scores[b].keys())
        if common:
            found.append((a, b, np.array([scores[a][clip] - scores[b][clip] for clip in common])))
    return [_difference(a, b, values, len(found), rng) for a, b, values in found]


def interval(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float] | tuple[None, None]:
    """Compute the bootstrap 95 % interval of the mean; (None, None) for fewer than two values."""
    if len(values) < 2:
        return None, None
    means = rng.choice(values, size=(RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _difference(a: str, b: str, values: np.ndarray, tested: int, rng: np.random.Generator) -> Difference:
    low, high = interval(values, rng)
    p = _signed_rank(values)
    return Difference(a, b, len(values), float(values.mean()), low, high, None if p is None else min(1.0, p * tested))


def _signed_rank(values: np.ndarray) -> float | None:
    """Compute Wilcoxon's two-sided p; zeros are dropped, as in his original test."""
    if len(values) < 2 or not values.any():
        return None
    from scipy.stats import wilcoxon

    return float(wilcoxon(values, zero_method="wilcox").pvalue)
