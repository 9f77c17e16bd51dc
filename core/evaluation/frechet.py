"""Frechet distance between two sets of points, each modelled as a Gaussian, and its limit for infinite sets.

d(A, B) = |mean A - mean B|^2 + tr S_A + tr S_B - 2 tr (S_A S_B)^(1/2)          S: sample covariance, n - 1
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHARES = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
"""Clips per subsample, as n divided by these: evenly spaced in 1 / size."""
LEAST = 8
"""Smallest number of clips for an extrapolation."""
ROUNDS = 96
"""Small sets are partitioned ROUNDS / n times, to average over random partitions."""

Pair = tuple[np.ndarray, np.ndarray]
"""The points of one clip in either set, each [n, D]."""


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the distance of a [n, D] and b [m, D], n and m at least 2; 0 for equal sets, never negative.

    With S_A = X^T X, S_B = Y^T Y (X, Y the centred points over sqrt(n - 1)), the last trace is the sum of the singular
    values of X Y^T. That requires no matrix square root and no regularisation, and is exact for n <= D as well, where a
    covariance is singular. The bias of small sets is estimated by `limit`.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} points; a covariance needs 2 of each, and a meaningful distance many")
    x, y = _root(a), _root(b)
    shift = a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)
    overlap = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + (x**2).sum() + (y**2).sum() - 2 * overlap))


def frechet_of(clips: Sequence[Pair]) -> float:
    """Compute the distance of the sets that the clips form together."""
    return frechet(np.concatenate([a for a, _ in clips]), np.concatenate([b for _, b in clips]))


def limit(clips: Sequence[Pair]) -> float:
    """Extrapolate the distance to infinitely many clips: the line through distances of subsamples over 1 / size, at 0.

    As in arXiv 1911.07023 (and 2311.01616 for audio), with one change: there the reference is large and stays whole;
    here it is as small as the scored set, and biased as much, so clips are drawn with both their sides. The result may
    be negative, as that of an unbiased estimator of a small distance. It depends on the clips and on their order, not
    on chance. Raises ValueError below LEAST clips.
    """
    if len(clips) < LEAST:
        raise ValueError(f"{len(clips)} clips; the limit is extrapolated from {LEAST} or more")
    rng = np.random.default_rng(0)
    rounds = [rng.permutation(len(clips)) for _ in range(max(1, ROUNDS // len(clips)))]
    sizes, means = [], []
    for size in sorted({round(len(clips) / share) for share in SHARES}):
        cuts = [order[at : at + size] for order in rounds for at in range(0, len(clips) - size + 1, size)]
        cuts = cuts[:1] if size == len(clips) else cuts  # the whole set is the same for any order
        sizes.append(size)
        means.append(float(np.mean([frechet_of([clips[i] for i in cut]) for cut in cuts])))
    _, intercept = np.polyfit(1 / np.array(sizes), means, 1)
    return float(intercept)


def _root(points: np.ndarray) -> np.ndarray:
    """Return X with X^T X the covariance of points [n, D], of min(n, D) rows."""
    centred = np.asarray(points, dtype=np.float64)
    centred = (centred - centred.mean(0)) / np.sqrt(len(points) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(points) > points.shape[1] else centred
