"""Matrices as whole numbers: a quarter of the bytes that a step has to read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 2
"""So many vectors are multiplied one by one; for more, the matrix is converted first."""


class Int8Linear(nn.Module):
    """W x + b, W kept as int8 with a scale for each row: W[i, j] ~ scale[i] * whole[i, j], |whole| <= 127.

    It computes in the type of x. Compiled, it never makes the converted matrix for a vector or two.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        self.whole: Tensor
        self.scale: Tensor
        self.register_buffer("whole", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale[:, 0].to(linear.weight.dtype))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        if x.numel() <= FEW * x.shape[-1]:
            out = (x[..., None, :] * self.whole).sum(-1)
        else:
            out = F.linear(x, self.whole.to(x.dtype))
        out = out * self.scale
        return out if self.bias is None else out + self.bias


def in_int8(module: nn.Module) -> nn.Module:
    """The module with every nn.Linear in it replaced, in place; returns it, or what it is replaced by."""
    if isinstance(module, nn.Linear):
        return Int8Linear(module)
    for name, child in module.named_children():
        setattr(module, name, in_int8(child))
    return module
