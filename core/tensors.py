"""Small operations on tensors."""

from __future__ import annotations

import torch
from torch import Tensor, library


def total(*terms: Tensor | None) -> Tensor | None:
    """Sum the terms that are not None, broadcast against each other; None where all are."""
    there = [term for term in terms if term is not None]
    return sum(there[1:], start=there[0]) if there else None


def in_full(x: Tensor) -> Tensor:
    """Convert to float32, if the type of x is less precise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@library.custom_op("accomp::computed_once", mutates_args=())
def computed_once(x: Tensor) -> Tensor:
    """A copy of x that torch.compile computes once and keeps.

    Otherwise it computes cheap operations, of sines for example, again for each number that they are used for. Without
    a gradient.
    """
    return x.clone()


@computed_once.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)
