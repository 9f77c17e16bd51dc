"""Sums of optional tensors."""

from __future__ import annotations

from torch import Tensor


def total(*terms: Tensor | None) -> Tensor | None:
    """Sum the terms that are not None, broadcast against each other; None where all are."""
    there = [term for term in terms if term is not None]
    return sum(there[1:], start=there[0]) if there else None
