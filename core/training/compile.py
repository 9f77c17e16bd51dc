"""Compilation of a training step: loss and gradients as one graph, for batches of one shape.

On a GPU attention masks are passed by tiles, for flex_attention, to objectives that can: the device decides, and a CPU
computes with the mask in full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from accomp.core.compute.compilers import lacking
from accomp.core.console import say, warn
from accomp.core.errors import SpecError, WorkError, first_line
from accomp.core.interfaces import Objective
from accomp.core.types import AttentionPattern, Loss

Choice = Literal["auto", "on", "off"]
OFF = 'set train.compile = "off" to train without'


def compile_loss(objective: Objective, choice: Choice, device: torch.device, *, sharded: bool = False) -> bool:
    """Let `objective.loss_of` be compiled at its first call; returns True where it will be.

    "auto": on a CUDA device that supports it; elsewhere compiling takes longer than it saves. Random draws of
    `objective.loss` stay outside the graph. sharded: the weights are sharded over processes. "on" raises SpecError,
    with the reason, where compilation is impossible.
    """
    if choice == "off" or (choice == "auto" and device.type != "cuda"):
        return False
    if why := _hindrance(objective, device, sharded):
        if choice == "on":
            raise SpecError(f'train.compile = "on", but {why}; {OFF} @ train.compile')
        say(f"training is not compiled: {why}")
        return False
    compiled: Any = objective
    if device.type == "cuda" and hasattr(objective, "tiles"):
        compiled.tiles = True
    compiled.loss_of = _Compiled(objective, insists=choice == "on")
    return True


def _hindrance(objective: Objective, device: torch.device, sharded: bool) -> str:
    """Return the reason why compilation is impossible, "" where it is possible."""
    if sharded:
        return 'under run.strategy = "fsdp" weights are gathered between the layers, which no single graph holds'
    if not callable(getattr(objective, "loss_of", None)):
        return f"objective {type(objective).__name__} has no `loss_of`, the loss after all random draws"
    return lacking(device)


class _Compiled:
    """A loss of an objective as one graph without a break, for arguments of one shape.

    On failure it is compiled with attention masks in full, if they came by tiles; failing again, it raises WorkError if
    it `insists`, else it warns, with the reason, and continues uncompiled.
    """

    def __init__(self, objective: Any, *, insists: bool):
        self._objective, self._insists = objective, insists
        self._loss_of: Callable[..., Loss] = objective.loss_of
        self._compiled = torch.compile(self._loss_of, fullgraph=True, dynamic=False)
        self._gave_up = False

    def __call__(self, *given: Any) -> Loss:
        if self._gave_up:
            return self._loss_of(*given)
        try:
            return self._compiled(*given)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # errors of the compiler and of the code that it traces
            why = first_line(error)
            if getattr(self._objective, "tiles", False):
                warn(f"the training step cannot be compiled with masks by tiles, and takes them in full: {why}")
                self._objective.tiles = False
            elif self._insists:
                raise WorkError(f"the training step cannot be compiled: {why}; {OFF}") from error
            else:
                warn(f"the training step cannot be compiled, and runs uncompiled: {why}")
                self._gave_up = True
        return self(*(None if isinstance(one, AttentionPattern) else one for one in given))  # as without tiles
