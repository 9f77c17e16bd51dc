"""Model and objective as one module, so that Fabric's precision and collectives cover the whole step."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from accomp.core.clock import Clock
from accomp.core.interfaces import Objective
from accomp.core.model.model import Model
from accomp.core.types import Batch, Loss


class LossModule(nn.Module):
    """The loss of a batch: by `learning` in training mode, by `objective` otherwise.

    The two are equal, but the loss of `learning` may be compiled: training batches have one shape, validation batches
    have several. `heads` are trained beside the model; both objectives hold them.
    """

    def __init__(self, model: Model, objective: Objective, learning: Objective, heads: nn.Module | None = None):
        super().__init__()
        self.model, self.objective, self.learning, self.heads = model, objective, learning, heads

    def forward(
        self, batch: Batch, rng: torch.Generator, against: Against | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None, Tensor | None]:
        """Return the fields of a Loss as a tuple, which Fabric can traverse; in a turn `against` an opponent the
        generator's.
        """
        if against is not None:
            learning: Any = self.learning
            loss = learning.turn_loss(against.turn, self.model, against.other, batch, rng, against.shared)
        else:
            objective = self.learning if self.model.training else self.objective
            loss = objective.loss(self.model, batch, self.model.clock, rng)
        return loss.total, loss.parts, loss.counts, loss.right


class Against(NamedTuple):
    """The other side of an adversarial objective, with frozen weights.

    Attributes:
        turn: side that is trained, as the objective names it.
        other: the other side's module.
        shared: random draws that all processes share.
    """

    turn: str
    other: nn.Module
    shared: torch.Generator


class AdversaryModule(nn.Module):
    """The adversary's loss of a batch, as a module for the same reasons."""

    def __init__(self, adversary: nn.Module, learning: Any):
        super().__init__()
        self.adversary, self.learning = adversary, learning

    def forward(self, batch: Batch, rng: torch.Generator, against: Against) -> tuple[Tensor, dict[str, Tensor]]:
        """Return total and parts."""
        loss = self.learning.turn_loss(against.turn, against.other, self.adversary, batch, rng, against.shared)
        return loss.total, loss.parts


class ThroughModule:
    """An objective that calls the LossModule set up by Fabric, as a model with sharded weights requires."""

    def __init__(self, module: nn.Module):
        self._module = module

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Compute the loss of the module's model, which must be `model`."""
        return Loss(*self._module(batch, rng))
