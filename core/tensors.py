"""Small operations on tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def total(*terms: Tensor | None) -> Tensor | None:
    """Sum the terms that are not None, broadcast against each other; None where all are."""
    there = [term for term in terms if term is not None]
    return sum(there[1:], start=there[0]) if there else None


def in_full(x: Tensor) -> Tensor:
    """Convert to float32, if the type of x is less precise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
