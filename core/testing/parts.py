"""Minimal conforming fuser and backbone, for checks of objectives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from accomp.core.interfaces import Backbone, Fuser
from accomp.core.tensors import total
from accomp.core.testing.common import WIDTH
from accomp.core.types import AttentionPattern, TokenSpace


class Sum(Fuser):
    """h = A x + B e + c."""

    def __init__(self, space: TokenSpace):
        super().__init__()
        self.embed_width = WIDTH
        self.a, self.b = nn.Linear(space.latent_dim, WIDTH), nn.Linear(WIDTH, WIDTH)

    def fuse(self, x: Tensor | None, e: Tensor | None, c: Tensor | None = None) -> Tensor:
        h = total(None if x is None else self.a(x), None if e is None else self.b(e), c)
        assert h is not None, "a position has input or output"
        return h


class Mean(Backbone):
    """h_s + tanh(W mean of all h that s attends to)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(WIDTH, WIDTH)

    def forward(
        self, h: Tensor, *, causal: bool = True, state: Any = None, sight: AttentionPattern | None = None
    ) -> Tensor:
        weights = torch.ones(h.shape[1], h.shape[1])
        weights = weights.tril() if causal else weights
        weights = weights if sight is None else sight.visible.float()
        return h + torch.tanh(self.w(weights / weights.sum(-1, keepdim=True) @ h))
