"""Query-key norm, rotation, and the new key and value into the ring: one kernel for a row of every session."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from accomp.core.streaming.kernels.operators import operator, power_of_two, wrap_triton
from accomp.core.streaming.quantize import quantize


@triton.jit
def _store(data, scale, place, x, i, DIM: tl.constexpr):
    """Store vector number `place`; where there is a scale, quantized as core/streaming/quantize.py does."""
    if scale is not None:
        step = tl.div_rn(tl.maximum(tl.max(tl.abs(x), axis=0), 1e-12), 127.0)
        tl.store(scale + place, step)
        x = tl.div_rn(x, step)
        x = (x + 12582912.0) - 12582912.0  # 1.5 * 2^23: to the nearest integer, and to the even one of two
    tl.store(data + place * DIM + i, x.to(data.dtype.element_ty), mask=i < DIM)


@triton.jit
def remember_kernel(
    qkv,
    qk_scale,
    cos,
    sin,
    slot,
    pinned,
    queries,
    keys,
    key_scale,
    values,
    value_scale,
    EPS: tl.constexpr,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    TURNS: tl.constexpr,
    SLOTS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """Program (b, n) has head n of row b, among H of queries, J of keys and J of values; arguments as in `remember`."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    i = tl.arange(0, BLOCK_DIM)
    opposite = (i + DIM // 2) % DIM  # the dimension that each one rotates with
    source = qkv + (row * (HEADS + 2 * KV_HEADS) + head) * DIM
    x = tl.load(source + i, mask=i < DIM, other=0.0).to(tl.float32)
    if head >= HEADS + KV_HEADS:
        place = (row * KV_HEADS + head - HEADS - KV_HEADS) * SLOTS + tl.load(slot + row)
        _store(values, value_scale, place, x, i, DIM)
    else:
        y = tl.load(source + opposite, mask=i < DIM, other=0.0).to(tl.float32)
        factor = tl.rsqrt(tl.sum(x * x, axis=0) / DIM + EPS)
        x *= factor * tl.load(qk_scale + head * DIM + i, mask=i < DIM, other=0.0).to(tl.float32)
        y *= factor * tl.load(qk_scale + head * DIM + opposite, mask=i < DIM, other=0.0).to(tl.float32)
        for turn in tl.static_range(TURNS):
            angle = (row * TURNS + turn) * DIM + i
            c = tl.load(cos + angle, mask=i < DIM, other=0.0)
            s = tl.load(sin + angle, mask=i < DIM, other=0.0)
            turned = x * c + y * s
            if head < HEADS:
                query = ((row * HEADS + head) * TURNS + turn) * DIM + i
                tl.store(queries + query, turned.to(queries.dtype.element_ty), mask=i < DIM)
            elif turn == 0:
                key_place = (row * KV_HEADS + head - HEADS) * SLOTS + tl.load(slot + row)
                _store(keys, key_scale, key_place, tl.where(tl.load(pinned + row), x, turned), i, DIM)


def _like(qkv: Tensor, qk_scale: Tensor, cos: Tensor, keys: Tensor, *others: Any, **more: Any) -> Tensor:
    heads = len(qk_scale) - keys.shape[1]
    return qkv.new_empty(len(qkv), heads, cos.shape[1], cos.shape[2])


@operator("remember", changes=("keys", "values", "key_scale", "value_scale"), like=_like)
def remember(
    qkv: Tensor,
    qk_scale: Tensor,
    cos: Tensor,
    keys: Tensor,
    values: Tensor,
    sin: Tensor,
    slot: Tensor,
    pinned: Tensor,
    eps: float,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
) -> Tensor:
    """Store a row's key and value of every session in the ring -> its queries [B, H, 1 + P, d], rotated.

    A query or key x becomes rmsnorm(x) * qk_scale, then is rotated to its position (turn 0) and, a query, to its
    distances from the P pinned positions (turns 1 to P). The key of a pinned position is stored unrotated.

    Args:
        qkv: [B, (H + 2 J) * d], queries, keys, values.
        qk_scale: [H + J, 1, d].
        cos, sin: [B, 1 + P, d] float32; x turns to x * cos + x' * sin, x' the halves of x exchanged.
        keys, values: [B, J, L, d], of any type.
        slot: [B] int64, where they are stored; pinned: [B] bool, whether the position is one of the pinned.
        eps: of the norm.
        key_scale, value_scale: [B, J, L, 1] float32 of an int8 cache.
    """
    batch, kv_heads, slots, dim = keys.shape
    heads, turns = len(qk_scale) - kv_heads, cos.shape[1]
    queries = torch.empty(batch, heads, turns, dim, dtype=qkv.dtype, device=qkv.device)
    wrap_triton(remember_kernel)[(batch, heads + 2 * kv_heads)](
        qkv.contiguous(), qk_scale, cos.contiguous(), sin.contiguous(), slot, pinned,
        queries, keys, key_scale, values, value_scale,
        EPS=eps, HEADS=heads, KV_HEADS=kv_heads, TURNS=turns, SLOTS=slots, DIM=dim, BLOCK_DIM=power_of_two(dim),
    )  # fmt: skip
    return queries


def remember_in_torch(
    qkv: Tensor,
    qk_scale: Tensor,
    cos: Tensor,
    keys: Tensor,
    values: Tensor,
    sin: Tensor,
    slot: Tensor,
    pinned: Tensor,
    eps: float,
    key_scale: Tensor | None = None,
    value_scale: Tensor | None = None,
) -> Tensor:
    """As `remember`."""
    batch, kv_heads, _, dim = keys.shape
    qk, v = qkv.float().view(batch, -1, 1, dim).tensor_split([len(qk_scale)], dim=1)
    qk = F.rms_norm(qk, (dim,), eps=eps) * qk_scale.float()
    turned = qk * cos[:, None] + qk.roll(dim // 2, dims=-1) * sin[:, None]
    heads = len(qk_scale) - kv_heads
    k = torch.where(pinned[:, None, None], qk[:, heads:, 0], turned[:, heads:, 0])
    for data, scale, new in ((keys, key_scale, k), (values, value_scale, v[:, :, 0])):
        whole, step = (new, None) if scale is None else quantize(new)
        for row, place in enumerate(slot.tolist()):
            data[row, :, place] = whole[row].to(data.dtype)
            if scale is not None and step is not None:
                scale[row, :, place] = step[row]
    return turned[:, :heads].to(qkv.dtype)
