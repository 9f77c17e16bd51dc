"""Additive fusion: input latents, projected to the model width, plus output embeddings."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor, nn

from accomp.core.interfaces import Fuser
from accomp.core.tensors import total
from accomp.core.types import TokenSpace


class Add(Fuser):
    """h = LN(W x) + LN(e + c), where absent terms are omitted.

    The fusion of the offline prefix decoder of arXiv 2510.22105, where no position has both. The norms are an addition:
    latents may be 100 times as large as initial embeddings and would dominate. Without `norm` it is W x + e + c,
    as in the paper's public code.
    """

    @frozen
    class Config:
        """`norm`: normalizes input and output to unit scale."""

        norm: bool = True

    def __init__(self, config: Config, space: TokenSpace, width: int):
        super().__init__()
        self.embed_width = width
        self.project = nn.Linear(space.latent_dim, width)
        self.input_norm, self.output_norm = (nn.LayerNorm(width) if config.norm else nn.Identity() for _ in range(2))

    def fuse(self, x: Tensor | None, e: Tensor | None, c: Tensor | None = None) -> Tensor:
        """x [B, S, E] or None, e [B, S, D] or None, c [B, 1, D] or None -> h [B, S, D]."""
        e = total(e, c)
        h = total(None if x is None else self.input_norm(self.project(x)), None if e is None else self.output_norm(e))
        assert h is not None, "a position has input, output, or both"
        return h
