"""Caches, embedders, Frechet distance and intervals, for metrics."""

from __future__ import annotations

from accomp.core.evaluation.cache import Cache
from accomp.core.evaluation.embedders import build_embedder
from accomp.core.evaluation.frechet import LEAST, Pair, frechet_of, limit
from accomp.core.evaluation.intervals import jackknife

__all__ = [
    "LEAST",
    "Cache",
    "Pair",
    "build_embedder",
    "frechet_of",
    "jackknife",
    "limit",
]
