"""The fusion of the streaming paper: input latents, plus gated output embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from attrs import frozen
from torch import Tensor, nn

from accomp.core.interfaces import Fuser
from accomp.core.tensors import total
from accomp.core.types import TokenSpace


class GatedAdd(Fuser):
    """h = LN(W LN(x)) + g * LN(e), eq. 3 of arXiv 2510.22105; norm = "reference": h = LN(W LN(x) + g * LN(e)).

    The gate g is initialized to zero, so training starts from the input alone. Labels c belong to the output: e
    stands for e + c, and for c where there is no output. Positions without input are LN(e), those without e and c LN(W
    LN(x)) under either norm.
    """

    @frozen
    class Config:
        """`norm`: place of the outer norm, as in the "paper" or in its public code, the "reference".

        The reference omits W, but not its norm, where E = D.
        """

        norm: Literal["paper", "reference"] = "paper"

    def __init__(self, config: Config, space: TokenSpace, width: int):
        super().__init__()
        bare = config.norm == "reference" and space.latent_dim == width
        self.embed_width = width
        self.gate_inside = config.norm == "reference"
        self.input_norm = nn.LayerNorm(space.latent_dim)
        self.project = nn.Identity() if bare else nn.Linear(space.latent_dim, width)
        self.output_norm = nn.LayerNorm(width)
        self.gate = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)

    def fuse(self, x: Tensor | None, e: Tensor | None, c: Tensor | None = None) -> Tensor:
        """x [B, S, E] or None, e [B, S, D] or None, c [B, 1, D] or None -> h [B, S, D]."""
        e = total(e, c)
        if x is None:
            return self.output_norm(e)
        h = self.project(self.input_norm(x))
        if e is None:
            return self.norm(h)
        e = self.gate * self.output_norm(e)
        return self.norm(h + e) if self.gate_inside else self.norm(h) + e
