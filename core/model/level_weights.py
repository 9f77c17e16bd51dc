"""Weights of the codec levels in a training loss, an objective's Config field `weights`."""

from __future__ import annotations

from typing import Any

from accomp.core.errors import CombinationError
from accomp.core.types import TokenSpace


def each_level(_: Any, attribute: Any, weights: tuple[float, ...]) -> None:
    """Validate a Config's `weights`: none below zero, not all of them zero."""
    if weights and (min(weights) < 0 or max(weights) == 0):
        raise ValueError(f"{attribute.name} is {list(weights)}; expected numbers of at least 0, one of them above")


def weights_of(weights: tuple[float, ...], space: TokenSpace) -> tuple[float, ...] | None:
    """None without weights. Raises CombinationError unless their count equals the codec's levels."""
    if weights and len(weights) != space.codebooks:
        raise CombinationError(
            f"weights has {len(weights)} numbers, the codec {space.codebooks} levels @ objective.weights"
        )
    return weights or None
