"""Sharding of weights and optimizer state over processes (FSDP), and their gathering for checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard a module over the processes: each layer of its lists of layers by itself, then the rest together.

    A layer is gathered only while it computes. `mesh` has a dimension "data_parallel". Empty parameters stay unsharded
    and require no gradient.
    """
    processes = mesh["data_parallel"]
    lists = [child for child in module.modules() if isinstance(child, nn.ModuleList)]
    for layers in reversed(lists):
        for layer in layers:
            fully_shard(layer, mesh=processes)
    empty = {parameter for parameter in module.parameters() if not parameter.numel()}
    for parameter in empty:
        parameter.requires_grad_(False)
    fully_shard(module, mesh=processes, reshard_after_forward=True, ignored_params=empty)
    return module


def whole(state: Any) -> Any:
    """Gather every sharded tensor of a state_dict, or of a part of one, on the CPU.

    A collective operation of all processes.
    """
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole(value) for value in state]
    return state


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the gathered state_dict of an optimizer, sharded as its parameters are. A collective operation."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    spread = {
        number: {name: _like(parameters[number], value) for name, value in moments.items()}
        for number, moments in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": spread})


def _like(parameter: Tensor, value: Any) -> Any:
    """Shard a tensor of a parameter's shape like the parameter; return anything else unchanged."""
    if isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape:
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value
