"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EARLY = 50
"""Warm-up of the decay in steps: after n steps the decay is at most n / (n + EARLY)."""


class Averaged:
    """Moving average of parameters; its state is saved in checkpoints."""

    def __init__(self, parameters: Sequence[Tensor], past: float):
        """`past`: decay of the average per step."""
        self._parameters, self._past = list(parameters), past
        self.means = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Update the average after step number `step`, from 0."""
        past = min(self._past, (step + 1) / (step + 1 + EARLY))
        torch._foreach_lerp_(self.means, [parameter.detach() for parameter in self._parameters], 1 - past)

    @torch.no_grad()
    def take(self) -> None:
        """Replace the parameters by the average."""
        for parameter, mean in zip(self._parameters, self.means, strict=True):
            parameter.copy_(mean)

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {"means": self.means}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        self.means = [mean.clone() for mean in state["means"]]
