"""Model and objective as one module, so that Fabric's precision and what processes exchange see the whole step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accomp.core.interfaces import Objective
from accomp.core.model import Model
from accomp.core.streaming.clock import Clock
from accomp.core.types import Batch, Loss


class LossModule(nn.Module):
    """The loss of a batch: by `learning` while the model is in training mode, by `objective` otherwise.

    The two are equals, but the loss of `learning` may be compiled: batches of training all have one shape, those of
    validation have not.
    """

    def __init__(self, model: Model, objective: Objective, learning: Objective):
        super().__init__()
        self.model, self.objective, self.learning = model, objective, learning

    def forward(
        self, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None, Tensor | None]:
        """The fields of a Loss, which Fabric knows how to look through."""
        objective = self.learning if self.model.training else self.objective
        loss = objective.loss(self.model, batch, self.model.clock, rng)
        return loss.total, loss.parts, loss.counts, loss.right


class ThroughModule:
    """The loss of a LossModule that Fabric has set up: a model whose weights are spread computes in no other way."""

    def __init__(self, module: nn.Module):
        self._module = module

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """That of the model in the module, which `model` is."""
        return Loss(*self._module(batch, rng))
