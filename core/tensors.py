"""Sums of which some terms may be absent."""

from __future__ import annotations

from torch import Tensor


def total(*terms: Tensor | None) -> Tensor | None:
    """The sum of the terms that are there, broadcast against each other; None where none is."""
    there = [term for term in terms if term is not None]
    return sum(there[1:], start=there[0]) if there else None
