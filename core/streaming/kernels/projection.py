"""Norm, matrix, activation, residual: products of a few vectors with a matrix that is read once, as it is stored."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from accomp.core.streaming.kernels.operators import interpreted, operator, power_of_two

TILE = 4096
"""Products that a program forms at a time: 32 a thread."""
ROWS_OF_W = 4
"""Rows of the matrix a program reads side by side, so that enough loads are on their way."""


@triton.jit
def project_kernel(
    x,
    norm,
    weight,
    scale,
    bias,
    residual,
    out,
    EPS: tl.constexpr,
    ROWS: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """Program p computes columns p * BLOCK_OUT... of out [ROWS, OUT] for all rows; arguments as in `project`.

    The factor of the RMS norm is the same for all columns: it is applied to the sums, so that x is read once.
    """
    row = tl.arange(0, BLOCK_ROWS)
    column = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    sums = tl.zeros([BLOCK_ROWS, BLOCK_OUT, BLOCK_IN], tl.float32)
    gates = tl.zeros([BLOCK_ROWS, BLOCK_OUT, BLOCK_IN], tl.float32)
    squares = tl.zeros([BLOCK_ROWS, BLOCK_IN], tl.float32)
    for begin in tl.static_range(0, IN, BLOCK_IN):
        i = begin + tl.arange(0, BLOCK_IN)
        of_x = (row[:, None] < ROWS) & (i[None, :] < IN)
        of_w = (column[:, None] < OUT) & (i[None, :] < IN)
        part = tl.load(x + row[:, None] * IN + i[None, :], mask=of_x, other=0.0).to(tl.float32)
        if norm is not None:
            squares += part * part
            part *= tl.load(norm + i, mask=i < IN, other=0.0).to(tl.float32)[None, :]
        place = column[:, None] * IN + i[None, :]
        if ACTIVATION == "swiglu":
            gates += part[:, None, :] * tl.load(weight + place, mask=of_w, other=0.0).to(tl.float32)[None, :, :]
            place += OUT * IN
        sums += part[:, None, :] * tl.load(weight + place, mask=of_w, other=0.0).to(tl.float32)[None, :, :]
    y = tl.sum(sums, axis=2)
    gate = tl.sum(gates, axis=2)
    if norm is not None:
        factor = tl.rsqrt(tl.sum(squares, axis=1) / IN + EPS)[:, None]
        y *= factor
        gate *= factor
    known = column < OUT
    second = column + (OUT if ACTIVATION == "swiglu" else 0)
    if scale is not None:
        y *= tl.load(scale + second, mask=known, other=0.0).to(tl.float32)[None, :]
        if ACTIVATION == "swiglu":
            gate *= tl.load(scale + column, mask=known, other=0.0).to(tl.float32)[None, :]
    if bias is not None:
        y += tl.load(bias + second, mask=known, other=0.0).to(tl.float32)[None, :]
        if ACTIVATION == "swiglu":
            gate += tl.load(bias + column, mask=known, other=0.0).to(tl.float32)[None, :]
    if ACTIVATION == "silu":
        y *= tl.sigmoid(y)
    if ACTIVATION == "swiglu":
        y *= gate * tl.sigmoid(gate)
    place = row[:, None] * OUT + column[None, :]
    mask = (row[:, None] < ROWS) & known[None, :]
    if residual is not None:
        y += tl.load(residual + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + place, y.to(out.dtype.element_ty), mask=mask)


def _outputs(weight: Tensor, activation: str) -> int:
    return len(weight) // 2 if activation == "swiglu" else len(weight)


def _like(x: Tensor, weight: Tensor, activation: str, eps: float, *others: Any, **more: Any) -> Tensor:
    return x.new_empty(len(x), _outputs(weight, activation))


@operator("project", changes=(), like=_like)
def project(
    x: Tensor,
    weight: Tensor,
    activation: str,
    eps: float,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    norm: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """Compute residual + activation(W rmsnorm(x) + bias) -> [R, out], in float32, in the type of x at the end.

    Args:
        x: [R, in], R small: each program reads all of it.
        weight: W [out, in], contiguous, of any type; [2 * out, in] for "swiglu", the gate first.
        activation: "", "silu" or "swiglu", silu(gate) * value.
        eps: of the norm.
        scale: [rows of W], by which each is multiplied; the integers of an Int8Linear with theirs.
        bias: [rows of W].
        norm: [in], weight of the RMS norm; x as it is where None.
        residual: [R, out].
    """
    x, residual = x.contiguous(), None if residual is None else residual.contiguous()
    rows, inner, outer = len(x), x.shape[1], _outputs(weight, activation)
    out = torch.empty(rows, outer, dtype=x.dtype, device=x.device)
    block_rows = power_of_two(rows)
    block_out = ROWS_OF_W * (16 if interpreted() else 1)  # the interpreter takes milliseconds for each program
    block_in = min(power_of_two(inner), TILE // (ROWS_OF_W * block_rows))
    project_kernel[(triton.cdiv(outer, block_out),)](
        x, norm, weight, scale, bias, residual, out,
        EPS=eps, ROWS=rows, IN=inner, OUT=outer, ACTIVATION=activation,
        BLOCK_ROWS=block_rows, BLOCK_IN=block_in, BLOCK_OUT=block_out,
    )  # fmt: skip
    return out


def project_in_torch(
    x: Tensor,
    weight: Tensor,
    activation: str,
    eps: float,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    norm: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """As `project`."""
    v = x.float() if norm is None else F.rms_norm(x.float(), x.shape[1:], norm.float(), eps)
    matrix = weight.float() if scale is None else weight.float() * scale.float()[:, None]
    y = F.linear(v, matrix, None if bias is None else bias.float())
    if activation == "swiglu":
        gate, value = y.chunk(2, dim=-1)
        y = F.silu(gate) * value
    elif activation == "silu":
        y = F.silu(y)
    return (y if residual is None else y + residual.float()).to(x.dtype)
