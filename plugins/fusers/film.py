"""Feature-wise linear modulation: the input scales and shifts each feature of the output."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor, nn

from accomp.core.interfaces import Fuser
from accomp.core.tensors import total
from accomp.core.types import TokenSpace


class FiLM(Fuser):
    """h = (1 + gamma) * LN(e) + beta, where [gamma, beta] = W LN(x) + b (arXiv 1709.07871, eq. 1 and 2).

    gamma is initialized to zero and beta like a linear layer, so training starts from a sum of both sides with all
    features open. Labels c belong to the output: e stands for e + c, and for c where there is no output.
    Positions without input are LN(e), those without e and c are beta.
    """

    @frozen
    class Config:
        """No options."""

    def __init__(self, config: Config, space: TokenSpace, width: int):
        super().__init__()
        self.embed_width = width
        self.input_norm = nn.LayerNorm(space.latent_dim)
        self.modulation = nn.Linear(space.latent_dim, 2 * width)
        self.output_norm = nn.LayerNorm(width)
        with torch.no_grad():
            for parameter in self.modulation.parameters():
                parameter[:width].zero_()

    def fuse(self, x: Tensor | None, e: Tensor | None, c: Tensor | None = None) -> Tensor:
        """x [B, S, E] or None, e [B, S, D] or None, c [B, 1, D] or None -> h [B, S, D]."""
        e = total(e, c)
        if x is None:
            return self.output_norm(e)
        gamma, beta = self.modulation(self.input_norm(x)).chunk(2, dim=-1)
        return beta if e is None else (1.0 + gamma) * self.output_norm(e) + beta
