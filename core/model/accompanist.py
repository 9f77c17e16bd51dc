"""What models of codes and of latents have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from accomp.core.clock import Clock
from accomp.core.interfaces import Backbone, Fuser
from accomp.core.model.conditions import Conditions
from accomp.core.types import TokenSpace


class Accompanist(nn.Module):
    """Fuser and backbone between what is heard and what is played.

    Attributes:
        clock: what a prediction may see; None for a model that hears whole clips.
        timelines: name of a timeline -> what its numbers add to the embedding of an output.
        input_padding: [P, E], learned input frames before the first.
    """

    space: TokenSpace
    clock: Clock | None
    conditions: Conditions
    fuser: Fuser
    backbone: Backbone
    timelines: nn.ModuleDict
    input_padding: nn.Parameter

    @property
    def layout(self) -> Any:
        """How a model with a clock lays out its sequence. Raises ValueError for one without."""
        raise NotImplementedError

    @property
    def classes(self) -> dict[str, int]:
        """Label -> how many classes it has."""
        return {name: label.count for name, label in self.conditions.labels.items()}

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.input_padding.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.input_padding.dtype

    def timeline_embedding(self, timelines: Mapping[str, Tensor]) -> Tensor | None:
        """What the rows are told, name -> [B, S, N] -> what that adds to their embeddings [B, S, De]; None for none.

        Raises ValueError unless `timelines` names exactly those of this model.
        """
        if set(timelines) != set(self.timelines):
            raise ValueError(f"timelines {sorted(timelines)} were given to a model that takes {sorted(self.timelines)}")
        parts = [layer(timelines[name].to(self.dtype)) for name, layer in self.timelines.items()]
        return torch.stack(parts).sum(0) if parts else None


def timeline_layer(numbers: int, width: int) -> nn.Linear:
    """A timeline's layer. At the start nothing is told: a small weight, and what is withheld adds zero."""
    layer = nn.Linear(numbers, width)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
