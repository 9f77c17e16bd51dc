"""Reductions over the processes of a run. With one process they are the identity."""

from __future__ import annotations

from typing import cast

import torch
from lightning.fabric import Fabric
from torch import Tensor


def mean_over_processes(fabric: Fabric, numbers: dict[str, float]) -> dict[str, float]:
    """Average each number over all processes."""
    if fabric.world_size == 1 or not numbers:
        return numbers
    here = torch.tensor(list(numbers.values()), device=fabric.device)
    means = cast(Tensor, fabric.all_reduce(here, reduce_op="mean"))
    return dict(zip(numbers, means.tolist(), strict=True))


def largest_of_processes(fabric: Fabric, here: float) -> float:
    """Return the maximum over all processes."""
    if fabric.world_size == 1:
        return here
    return float(cast(Tensor, fabric.all_reduce(torch.tensor(here, device=fabric.device), reduce_op="max")))


def any_process(fabric: Fabric, here: bool) -> bool:
    """Return True where the flag is set in any process."""
    return bool(largest_of_processes(fabric, float(here)))
