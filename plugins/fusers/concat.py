"""The fusion of StemGen: input and output side by side in one vector."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor, nn

from accomp.core.errors import CombinationError
from accomp.core.interfaces import Fuser
from accomp.core.types import TokenSpace


class Concat(Fuser):
    """h = [W x + c ; e + c], half the width each; c is the labels' embedding (arXiv 2312.08723, section 2.1).

    The half of an input or output that is not there is zero.
    """

    @frozen
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config, space: TokenSpace, width: int):
        """Raises CombinationError for an odd width."""
        super().__init__()
        if width % 2:
            raise CombinationError(f"fuser 'concat' gives input and output half of model.width each; {width} is odd")
        self.embed_width = width // 2
        self.project = nn.Linear(space.latent_dim, width // 2)

    def fuse(self, x: Tensor | None, e: Tensor | None, c: Tensor | None = None) -> Tensor:
        """x [B, S, E] or None, e [B, S, D / 2] or None, c [B, 1, D / 2] or None -> h [B, S, D]."""
        x = None if x is None else self.project(x)
        here = e if x is None else x
        assert here is not None, "a position has an input, an output or both"
        nothing = torch.zeros_like(here)
        c = nothing[:, :1] if c is None else c
        return torch.cat([nothing if half is None else half + c for half in (x, e)], dim=-1)
