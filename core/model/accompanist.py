"""The common base of models of codes and of latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from accomp.core.clock import Clock
from accomp.core.interfaces import Backbone, Fuser
from accomp.core.model.conditions import Conditions
from accomp.core.model.ear import Ear
from accomp.core.types import TokenSpace


class Accompanist(nn.Module):
    """A fuser and a backbone, with the conditions of a model.

    Attributes:
        clock: t_f and k, the visibility of the input; None for a model of whole clips.
        timelines: name of a timeline -> layer from its numbers to an addend of the output's embedding.
        input_padding: [P, E], learned input frames before the first.
        ear: supplies timelines that are not given; None for a model without one.
    """

    space: TokenSpace
    clock: Clock | None
    conditions: Conditions
    fuser: Fuser
    backbone: Backbone
    timelines: nn.ModuleDict
    input_padding: nn.Parameter
    ear: Ear | None

    @property
    def layout(self) -> Any:
        """The sequence layout of a model with a clock. Raises ValueError for one without."""
        raise NotImplementedError

    @property
    def classes(self) -> dict[str, int]:
        """Label -> number of its classes."""
        return {name: label.count for name, label in self.conditions.labels.items()}

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.input_padding.device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the parameters."""
        return self.input_padding.dtype

    def timeline_embedding(self, timelines: Mapping[str, Tensor]) -> Tensor | None:
        """Embed timelines of rows, name -> [B, S, N] -> an addend of the rows' embeddings [B, S, De]; None without any.

        Raises ValueError unless `timelines` names exactly those of this model.
        """
        if set(timelines) != set(self.timelines):
            raise ValueError(f"timelines {sorted(timelines)} were given to a model that takes {sorted(self.timelines)}")
        parts = [layer(timelines[name].to(self.dtype)) for name, layer in self.timelines.items()]
        return torch.stack(parts).sum(0) if parts else None


def timeline_layer(numbers: int, width: int) -> nn.Linear:
    """Make a timeline's layer, with small weights at first. A withheld timeline, all zeros, adds zero."""
    layer = nn.Linear(numbers, width)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
