"""Causal blocks over frames, of which the networks of `magnitude` are made."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.streams.causal import History, depthwise


class FrameBlock(nn.Module):
    """x + s * W2 hardswish(W1 norm(depthwise(x))): a ConvNeXt block over frames [B, T, D] that sees the past only.

    hardswish(v) = v min(max(v + 3, 0), 6) / 6 is made of sums and products alone, which give the same bits everywhere.
    """

    def __init__(self, width: int, hidden: int, kernel: int):
        super().__init__()
        self.kernel = kernel
        self.taps = nn.Parameter(torch.randn(kernel, width) * (kernel**-0.5))
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor, history: History) -> Tensor:
        mixed = depthwise(history.extend(self, x, self.kernel - 1, dim=1), self.taps)
        return torch.addcmul(x, self.scale, self.contract(F.hardswish(self.expand(self.norm(mixed)))))


def trunk(first: Any, blocks: Any, norm: Any, x: Tensor, history: History, *, mixed: bool = False) -> Tensor:
    """x [B, T, n] through a first layer, blocks and a norm [B, T, D]; `mixed`: computed in bfloat16."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=mixed):
        h = first(x)
        for block in blocks:
            h = block(h, history)
        normed: Tensor = norm(h)
        return normed.to(x.dtype)


def branch(last: Any, h: Tensor, *, mixed: bool = False) -> Tensor:
    """h [B, T, D] of a trunk through a last layer [B, T, m]; `mixed`: computed in bfloat16."""
    with torch.autocast(h.device.type, torch.bfloat16, enabled=mixed):
        out: Tensor = last(h)
        return out.to(h.dtype)


def through(
    first: Any, blocks: Any, norm: Any, last: Any, x: Tensor, history: History, *, mixed: bool = False
) -> Tensor:
    """A trunk and one branch of it."""
    return branch(last, trunk(first, blocks, norm, x, history, mixed=mixed), mixed=mixed)
