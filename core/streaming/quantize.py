"""Int8 quantization of matrices: a quarter of the memory traffic of a step, and on a CPU fewer instructions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 2
"""Up to this many vectors are multiplied one by one; for more, the matrix is converted first."""


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [..., n] -> int8 [..., n] up to 127 and scale [..., 1] float32, x ~ scale * int8, one scale a vector."""
    scale = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return (x / scale).round().to(torch.int8), scale


class Int8Linear(nn.Module):
    """W x + b, W stored as int8 with a scale for each row: W[i, j] ~ scale[i] * whole[i, j], |whole| <= 127.

    It computes in the type of x. Compiled, it does not materialise the converted matrix for up to FEW vectors.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        whole, scale = quantize(linear.weight.detach())
        self.whole: Tensor
        self.scale: Tensor
        self.register_buffer("whole", whole)
        self.register_buffer("scale", scale[:, 0].to(linear.weight.dtype))
        self.bias = linear.bias

    def forward(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """x [..., in] -> [..., out], or `rows` of the output."""
        out = self._product(x, rows)
        return out if self.bias is None else out + self.bias[rows]

    def _product(self, x: Tensor, rows: slice) -> Tensor:
        """W x."""
        whole = self.whole[rows]
        if x.numel() <= FEW * x.shape[-1]:
            return (x[..., None, :] * whole).sum(-1) * self.scale[rows]
        return F.linear(x, whole.to(x.dtype)) * self.scale[rows]


class W8A8Linear(Int8Linear):
    """As Int8Linear, with x as int8 too and a scale for each vector: W x ~ scale scale_x (whole whole_x), for CPUs.

    The product in brackets is exact, so that it does not depend on the number of vectors.
    """

    def _product(self, x: Tensor, rows: slice) -> Tensor:
        whole, scale = quantize(x.flatten(0, -2))
        out = torch._int_mm(whole, self.whole[rows].t()) * (scale * self.scale[rows])
        return out.to(x.dtype).unflatten(0, x.shape[:-1])


def to_int8(module: nn.Module, kind: type[Int8Linear] = Int8Linear) -> nn.Module:
    """Replace every nn.Linear in the module, in place; returns the module or its replacement. Subclasses stay."""
    if type(module) is nn.Linear:
        return kind(module)
    for name, child in module.named_children():
        setattr(module, name, to_int8(child, kind))
    return module
