"""Windows of a song: their starts, and their selection by the rules of core/spec/pairs.py."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from accomp.core.spec.pairs import PairRules


def starts(frames: int, length: int, rules: PairRules) -> np.ndarray:
    """List the first frames of the windows of `length` frames in a song of `frames`: the last one ends with the
    song.
    """
    last = max(0, frames - length)
    step = max(1, math.floor(length * (1 - rules.overlap) + 1e-9))
    return np.unique(np.append(np.arange(0, last + 1, step), last))


def windows(target: np.ndarray, mixture: np.ndarray, length: int, rules: PairRules) -> tuple[np.ndarray, Counter[str]]:
    """Select windows by the activity [T] bool of target and mixture; return the starts, and reason -> rejected windows.

    The mixture is active where any of its stems is. A song shorter than a window must be active in as many frames.
    """
    begin = starts(len(target), length, rules)
    ends = np.minimum(begin + length, len(target))
    enough = math.ceil(rules.sounding * length - 1e-9)
    masks = {"target silent": target, "mixture silent": mixture, "never together": target & mixture}
    rejected: Counter[str] = Counter()
    left = np.ones(len(begin), dtype=bool)
    for reason, mask in masks.items():
        total = np.concatenate([[0], np.cumsum(mask)])
        fits = total[ends] - total[begin] >= enough
        rejected[reason] = int((left & ~fits).sum())
        left &= fits
    return begin[left], rejected
