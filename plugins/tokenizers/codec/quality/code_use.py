"""Usage of a codec's codes: number in use, entropy, and share that repeat the previous frame's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from accomp.plugin import TokenSpace
from accomp.plugins.tokenizers.codec.quality.intervals import (
    Estimate,
    Figure,
    codes_used,
    entropy,
    figure,
    perplexity,
    ratio,
)


def code_figures(codes: Sequence[np.ndarray], space: TokenSpace) -> dict[str, Figure]:
    """Codes [K, T] of each excerpt -> codes_used_q, perplexity_q, entropy_q, repeated_q and bitrate_entropy.

    See quality.figures. An excerpt of a single frame has no repetition.
    """
    n, found = len(codes), {}
    for q, counts in enumerate(_counts(codes, space), 1):
        levels = [one[q - 1] for one in codes]
        repeats = np.array([np.sum(one[1:] == one[:-1]) for one in levels], dtype=np.float64)
        chances = np.array([len(one) - 1 for one in levels], dtype=np.float64)
        found[f"codes_used_{q}"] = figure(codes_used(counts), n, pooled=True)
        found[f"perplexity_{q}"] = figure(perplexity(counts), n, pooled=True)
        found[f"entropy_{q}"] = figure(_nats(counts), n, pooled=True)
        found[f"repeated_{q}"] = figure(ratio(repeats, chances), n)
    each = [entropy(counts) for counts in _counts(codes, space)]
    bits = figure(lambda w: space.frame_rate * np.sum([level(w) for level in each], axis=0), n, pooled=True)
    return {**found, "bitrate_entropy": bits}


def _counts(codes: Sequence[np.ndarray], space: TokenSpace) -> np.ndarray:
    """[K, n, C], how often each code is used, by level and excerpt."""
    size = space.codebook_size
    return np.stack([[np.bincount(one[q], minlength=size) for one in codes] for q in range(space.codebooks)])


def _nats(counts: np.ndarray) -> Estimate:
    bits = entropy(counts)
    return lambda w: math.log(2) * bits(w)
