"""The plain fusion: input latents, brought to the model's width, plus output embeddings."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor, nn

from accomp.core.interfaces import Fuser
from accomp.core.terms import total
from accomp.core.types import TokenSpace


class Add(Fuser):
    """h = W x + e + c, of which whatever is absent is left out.

    The fusion of the offline prefix decoder in the public code of arXiv 2510.22105, where no position has both.
    """

    @frozen
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config, space: TokenSpace, width: int):
        super().__init__()
        self.embed_width = width
        self.project = nn.Linear(space.latent_dim, width)

    def fuse(self, x: Tensor | None, e: Tensor | None, c: Tensor | None = None) -> Tensor:
        """x [B, S, E] or None, e [B, S, D] or None, c [B, 1, D] or None -> h [B, S, D]."""
        h = total(None if x is None else self.project(x), e, c)
        assert h is not None, "a position has input, output, or both"
        return h
