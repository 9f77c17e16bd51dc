"""The fusion of StemGen: concatenation of input and output embeddings."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor, nn

from accomp.core.errors import CombinationError
from accomp.core.interfaces import Fuser
from accomp.core.types import TokenSpace


class Concat(Fuser):
    """h = [LN(W x + c) ; LN(e + c)], half the width each; c is the labels' embedding (arXiv 2312.08723, section 2.1).

    The half of an absent input or output is zero. The norms are an addition: latents may be 100 times as
    large as initial embeddings and would dominate. Without `norm` it is [W x + c ; e + c], as published.
    """

    @frozen
    class Config:
        """`norm`: normalizes each half to unit scale."""

        norm: bool = True

    def __init__(self, config: Config, space: TokenSpace, width: int):
        """Raises CombinationError for an odd width."""
        super().__init__()
        if width % 2:
            raise CombinationError(f"fuser 'concat' gives input and output half of model.width each; {width} is odd")
        self.embed_width = width // 2
        self.project = nn.Linear(space.latent_dim, width // 2)
        self.input_norm, self.output_norm = (
            nn.LayerNorm(width // 2) if config.norm else nn.Identity() for _ in range(2)
        )

    def fuse(self, x: Tensor | None, e: Tensor | None, c: Tensor | None = None) -> Tensor:
        """x [B, S, E] or None, e [B, S, D / 2] or None, c [B, 1, D / 2] or None -> h [B, S, D]."""
        x = None if x is None else self.project(x)
        here = e if x is None else x
        assert here is not None, "a position has an input, an output or both"
        nothing = torch.zeros_like(here)
        c = nothing[:, :1] if c is None else c
        halves = ((x, self.input_norm), (e, self.output_norm))
        return torch.cat([nothing if half is None else norm(half + c) for half, norm in halves], dim=-1)
