"""A moving average of weights: where a training circles, its middle is better than any point of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EARLY = 50
"""Steps: after n of them n / (n + EARLY) of the past counts, until that is more than asked for."""


class Averaged:
    """Follows parameters step by step. Its state is saved with a checkpoint."""

    def __init__(self, parameters: Sequence[Tensor], past: float):
        """`past`: how much of the average each step keeps."""
        self._parameters, self._past = list(parameters), past
        self.means = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """After step number `step`, counted from 0."""
        past = min(self._past, (step + 1) / (step + 1 + EARLY))
        torch._foreach_lerp_(self.means, [parameter.detach() for parameter in self._parameters], 1 - past)

    @torch.no_grad()
    def take(self) -> None:
        """Put the average in the parameters' place."""
        for parameter, mean in zip(self._parameters, self.means, strict=True):
            parameter.copy_(mean)

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {"means": self.means}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        self.means = [mean.clone() for mean in state["means"]]
