"""A row's attention in one kernel: query-key norm, rotation, the new key and value into the ring, attention over it.

The positions that a row sees are divided among programs, so that keys and values are read once and by the whole GPU.
Each finds the largest score m of its part, the sum `mass` of exp(score - m) and the sum o of exp(score - m) * value;
the one that ends last joins them. (Dao et al., "Flash-Decoding for long-context inference", 2023.)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from accomp.core.streaming.kernels.operators import interpreted, operator, power_of_two
from accomp.core.streaming.quantize import quantize

BLOCK = 64
"""Positions that a program reads at a time."""
LEAST = 16
"""Smallest side of a matrix product on tensor cores."""
JOINED = 4096
"""Numbers of the parts that a program joins at a time."""


@triton.jit
def _scaled(qkv, qk_scale, vector, head, i, mask, EPS: tl.constexpr, DIM: tl.constexpr, AXIS: tl.constexpr):
    """Numbers i of rmsnorm(x) * scale, x number `vector` of qkv, in float32."""
    x = tl.load(qkv + vector * DIM + i, mask=mask, other=0.0).to(tl.float32)
    factor = tl.rsqrt(tl.sum(x * x, axis=AXIS, keep_dims=True) / DIM + EPS)
    return x * factor * tl.load(qk_scale + head * DIM + i, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _quantized(x):
    """As core/streaming/quantize.py: integers up to 127, in float32, and their step."""
    step = tl.div_rn(tl.maximum(tl.max(tl.abs(x), axis=0), 1e-12), 127.0)
    return (tl.div_rn(x, step) + 12582912.0) - 12582912.0, step  # 1.5 * 2^23: to the nearest, and even, integer


@triton.jit
def _with_one(m, mass, o, score, value, shown):
    """m, mass and o with one more position, if it is shown."""
    score = tl.where(shown, score, m)
    new = tl.maximum(m, score)
    p = tl.where(shown, tl.exp(score - new), 0.0)
    shrink = tl.exp(m - new)
    return new, mass * shrink + p, o * shrink[:, None] + p[:, None] * value[None, :]


@triton.jit
def _join(
    out,
    outputs,
    largest,
    total,
    pair,
    parts,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Join the first `parts` of the GROUP heads of a pair."""
    s = tl.arange(0, BLOCK_SPLITS)[:, None]
    for start in tl.static_range(0, GROUP * DIM, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        place = (pair * GROUP + column // DIM)[None, :] * SPLITS + s
        mask = (s < parts) & (column[None, :] < GROUP * DIM)
        m = tl.load(largest + place, mask=mask, other=-1e30)
        weight = tl.exp(m - tl.max(m, axis=0)[None, :])
        mass = tl.sum(tl.load(total + place, mask=mask, other=1.0) * weight, axis=0)
        o = tl.load(outputs + place * DIM + (column % DIM)[None, :], mask=mask, other=0.0)
        result = (tl.sum(o * weight, axis=0) / mass).to(out.dtype.element_ty)
        tl.store(out + pair * GROUP * DIM + column, result, mask=column < GROUP * DIM)


@triton.jit
def attend_kernel(
    qkv,
    qk_scale,
    cos,
    sin,
    position,
    keys,
    values,
    key_scale,
    value_scale,
    out,
    outputs,
    largest,
    total,
    arrived,
    EPS: tl.constexpr,
    FACTOR: tl.constexpr,
    WINDOW: tl.constexpr,
    CAPACITY: tl.constexpr,
    PINNED_START: tl.constexpr,
    PINNED: tl.constexpr,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    SPAN: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_GROUP: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Program (b * J + j, s) has the s-th SPAN of the positions that row b sees, for the GROUP queries of keys j.

    Arguments as in `attend`. Where SPLITS > 1: `outputs` [B, H, SPLITS, d], `largest` and `total` [B, H, SPLITS] are
    room for the parts. A split beyond the positions that are held returns at once. The first one has the pinned
    positions as well, the last one that is held the new position, whose key and value are in no memory yet.
    """
    pair = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    row, j = pair // KV_HEADS, pair % KV_HEADS
    last = tl.load(position + row)
    first = tl.minimum(tl.maximum(last - WINDOW + 1, 0), last)  # a position below 0 sees itself alone
    held = (last - first + 1).to(tl.int32)
    begin = split * SPAN
    if begin >= held:
        return
    newest = begin + SPAN >= held
    pinned = (last >= PINNED_START) & (last < PINNED_START + PINNED)
    ring = ((last % CAPACITY) + CAPACITY) % CAPACITY  # % of Triton's is C's
    slot = tl.where(pinned, last - PINNED_START, PINNED + ring)
    vectors = pair * (PINNED + CAPACITY)  # number of the first vector of these keys

    g = tl.arange(0, BLOCK_GROUP)
    i = tl.arange(0, BLOCK_DIM)
    there = i < DIM
    square = (g[:, None] < GROUP) & there[None, :]
    opposite = (i + DIM // 2) % DIM  # the dimension that each one rotates with
    head = j * GROUP + g[:, None]
    vector = row * (GROUP + 2) * KV_HEADS
    x = _scaled(qkv, qk_scale, vector + head, head, i[None, :], square, EPS, DIM, 1)
    y = _scaled(qkv, qk_scale, vector + head, head, opposite[None, :], square, EPS, DIM, 1)
    turn = row * (1 + PINNED) * DIM + i
    c = tl.load(cos + turn, mask=there, other=0.0)
    s = tl.load(sin + turn, mask=there, other=0.0)
    q = (x * c[None, :] + y * s[None, :]).to(qkv.dtype.element_ty)
    if WIDE:  # Triton's interpreter has no product of bfloat16
        q = q.to(tl.float32)

    of_key = GROUP * KV_HEADS + j
    key = _scaled(qkv, qk_scale, vector + of_key, of_key, i, there, EPS, DIM, 0)
    across = _scaled(qkv, qk_scale, vector + of_key, of_key, opposite, there, EPS, DIM, 0)
    key = tl.where(pinned, key, key * c + across * s)
    value = tl.load(qkv + (vector + of_key + KV_HEADS) * DIM + i, mask=there, other=0.0).to(tl.float32)
    key_step = 1.0
    value_step = 1.0
    if key_scale is not None:
        key, key_step = _quantized(key)
        value, value_step = _quantized(value)
    stored_key = key.to(keys.dtype.element_ty)
    stored_value = value.to(values.dtype.element_ty)
    if (pinned & (split == 0)) | (newest & (pinned == 0)):
        tl.store(keys + (vectors + slot) * DIM + i, stored_key, mask=there)
        tl.store(values + (vectors + slot) * DIM + i, stored_value, mask=there)
        if key_scale is not None:
            tl.store(key_scale + vectors + slot, key_step)
            tl.store(value_scale + vectors + slot, value_step)
    key = stored_key.to(tl.float32) * key_step
    value = stored_value.to(tl.float32) * value_step

    m = tl.full([BLOCK_GROUP], -1e30, tl.float32)
    mass = tl.zeros([BLOCK_GROUP], tl.float32)
    o = tl.zeros([BLOCK_GROUP, BLOCK_DIM], tl.float32)
    end = tl.minimum(begin + SPAN, held - 1)
    oldest = (((first % CAPACITY) + CAPACITY) % CAPACITY).to(tl.int32)  # its slot of the ring
    for start in range(begin, end, BLOCK):
        n = start + tl.arange(0, BLOCK)
        place = oldest + n
        place = PINNED + tl.where(place >= CAPACITY, place - CAPACITY, place)
        shown = (n < end) & ((first + n < PINNED_START) | (first + n >= PINNED_START + PINNED))
        mask = shown[:, None] & there[None, :]
        numbers = (vectors + place)[:, None] * DIM + i[None, :]
        k = tl.load(keys + numbers, mask=mask, other=0.0).to(q.dtype)
        score = tl.dot(q, tl.trans(k), input_precision="ieee") * FACTOR
        if key_scale is not None:
            score *= tl.load(key_scale + vectors + place, mask=shown, other=0.0)[None, :]
        score = tl.where(shown[None, :], score, -1e30)
        new = tl.maximum(m, tl.max(score, axis=1))
        p = tl.where(shown[None, :], tl.exp(score - new[:, None]), 0.0)
        shrink = tl.exp(m - new)
        mass = mass * shrink + tl.sum(p, axis=1)
        if value_scale is not None:
            p *= tl.load(value_scale + vectors + place, mask=shown, other=0.0)[None, :]
        v = tl.load(values + numbers, mask=mask, other=0.0).to(q.dtype)
        o = o * shrink[:, None] + tl.dot(p.to(q.dtype), v, input_precision="ieee")
        m = new
    score = tl.sum(q.to(tl.float32) * key[None, :], axis=1) * FACTOR
    m, mass, o = _with_one(m, mass, o, score, value, newest & (pinned == 0))
    if split == 0:
        for pin in tl.static_range(PINNED):
            here = last == PINNED_START + pin
            known = last > PINNED_START + pin
            k = tl.load(keys + (vectors + pin) * DIM + i, mask=there & known, other=0.0).to(tl.float32)
            v = tl.load(values + (vectors + pin) * DIM + i, mask=there & known, other=0.0).to(tl.float32)
            if key_scale is not None:
                k *= tl.load(key_scale + vectors + pin, mask=known, other=0.0)
                v *= tl.load(value_scale + vectors + pin, mask=known, other=0.0)
            k = tl.where(here, key, k)
            v = tl.where(here, value, v)
            c = tl.load(cos + turn + (1 + pin) * DIM, mask=there, other=0.0)
            s = tl.load(sin + turn + (1 + pin) * DIM, mask=there, other=0.0)
            back = x * c[None, :] + y * s[None, :]
            score = tl.sum(back * k[None, :], axis=1) * FACTOR
            m, mass, o = _with_one(m, mass, o, score, v, here | known)

    if SPLITS == 1:
        result = (o / mass[:, None]).to(out.dtype.element_ty)
        tl.store(out + (pair * GROUP + g[:, None]) * DIM + i[None, :], result, mask=square)
    else:
        part = (pair * GROUP + g) * SPLITS + split
        tl.store(largest + part, m, mask=g < GROUP)
        tl.store(total + part, mass, mask=g < GROUP)
        tl.store(outputs + part[:, None] * DIM + i[None, :], o, mask=square)
        tl.debug_barrier()  # the part is written by all threads before one of them counts it
        parts = tl.cdiv(held, SPAN)
        if tl.atomic_add(arrived + pair, 1, sem="acq_rel") == parts - 1:
            tl.store(arrived + pair, 0)
            _join(out, outputs, largest, total, pair, parts, GROUP, DIM, SPLITS, BLOCK_SPLITS, COLUMNS)


def _like(qkv: Tensor, qk_scale: Tensor, cos: Tensor, keys: Tensor, *others: Any, **more: Any) -> Tensor:
    return qkv.new_empty(len(qkv), (len(qk_scale) - keys.shape[1]) * keys.shape[3])


@operator("attend", changes=("keys", "values", "key_scale", "value_scale", "arrived"), like=_like)
def attend(
    qkv: Tensor,
    qk_scale: Tensor,
    cos: Tensor,
    keys: Tensor,
    values: Tensor,
    sin: Tensor,
    position: Tensor,
    arrived: Tensor,
    eps: float,
    window: int,
    pinned_start: int,
    splits: int,
    key_scale: Tensor | None,
    value_scale: Tensor | None,
) -> Tensor:
    """Store a row's key and value of every session in the ring, and attend to its window and the pinned positions.

    A query or key x becomes rmsnorm(x) * qk_scale, then is rotated to its position (turn 0) and, a query, to its
    distances from the P pinned positions (turns 1 to P). The key of a pinned position is stored unrotated.

    Products are in the type of qkv, sums in float32. Positions, the start of the ring and what is held are read from
    the device.

    Args:
        qkv: [B, (H + 2 J) * d], queries, keys, values; H / J successive query heads share a key head.
        qk_scale: [H + J, 1, d].
        cos, sin: [B, ..., 1 + P, d] float32; x turns to x * cos + x' * sin, x' the halves of x exchanged.
        keys, values: [B, J, L, d], of any type, in the slots of RingKVCache.
        position: [B] int64, of the row.
        arrived: [B * J or more] int32, zeros, and zeros again at the end.
        eps: of the norm.
        window: positions that the row sees, itself included.
        pinned_start: the first of the P pinned positions.
        splits: programs for each of the B * J key heads.
        key_scale, value_scale: [B, J, L, 1] float32 of an int8 cache.

    Returns:
        [B, H * d].
    """
    batch, kv_heads, slots, dim = keys.shape
    heads, pinned, many = len(qk_scale) - kv_heads, cos.shape[-2] - 1, splits > 1
    out = torch.empty(batch, heads * dim, dtype=qkv.dtype, device=qkv.device)
    part = torch.empty(batch, heads, splits, dim, dtype=torch.float32, device=qkv.device) if many else None
    largest = torch.empty(batch, heads, splits, dtype=torch.float32, device=qkv.device) if many else None
    total = torch.empty(batch, heads, splits, dtype=torch.float32, device=qkv.device) if many else None
    block_splits, numbers = power_of_two(splits), power_of_two(heads // kv_heads * dim)
    attend_kernel[(batch * kv_heads, splits)](
        qkv.contiguous(), qk_scale, cos.contiguous(), sin.contiguous(), position,
        keys, values, key_scale, value_scale, out, part, largest, total, arrived,
        EPS=eps, FACTOR=dim**-0.5, WINDOW=window, CAPACITY=slots - pinned, PINNED_START=pinned_start, PINNED=pinned,
        KV_HEADS=kv_heads, GROUP=heads // kv_heads, DIM=dim,
        SPLITS=splits, SPAN=span_of(window, splits), WIDE=interpreted(),
        BLOCK_GROUP=power_of_two(heads // kv_heads, LEAST), BLOCK_DIM=power_of_two(dim, LEAST), BLOCK=BLOCK,
        BLOCK_SPLITS=block_splits, COLUMNS=min(numbers, max(1, JOINED // block_splits)),
    )  # fmt: skip
    return out


def splits_of(window: int, heads: int, processors: int) -> int:
    """Return how many programs share a head, so that `heads` of them fill the processors twice; each has a block."""
    return max(1, min(2 * processors // heads, triton.cdiv(window, BLOCK)))


def span_of(window: int, splits: int) -> int:
    """Return the number of positions of a split, whole blocks."""
    return triton.cdiv(triton.cdiv(window, splits), BLOCK) * BLOCK


def attend_in_torch(
    qkv: Tensor,
    qk_scale: Tensor,
    cos: Tensor,
    keys: Tensor,
    values: Tensor,
    sin: Tensor,
    position: Tensor,
    eps: float,
    window: int,
    pinned_start: int,
    key_scale: Tensor | None = None,
    value_scale: Tensor | None = None,
) -> Tensor:
    """As `attend`, position by position."""
    batch, kv_heads, slots, dim = keys.shape
    heads, pinned = len(qk_scale) - kv_heads, range(pinned_start, pinned_start + cos.shape[1] - 1)
    capacity = slots - len(pinned)
    qk, new_v = qkv.float().view(batch, -1, 1, dim).tensor_split([heads + kv_heads], dim=1)
    qk = F.rms_norm(qk, (dim,), eps=eps) * qk_scale.float()
    turned = qk * cos[:, None] + qk.roll(dim // 2, dims=-1) * sin[:, None]
    out = torch.empty(batch, heads, dim)
    for row, last in enumerate(position.tolist()):
        slot = last - pinned_start if last in pinned else len(pinned) + last % capacity
        new_k = qk[row, heads:, 0] if last in pinned else turned[row, heads:, 0]
        recent = [p for p in range(min(max(last - window + 1, 0), last), last + 1) if p not in pinned]
        kept = [p for p in pinned if p <= last]
        at = [len(pinned) + p % capacity for p in recent] + [p - pinned_start for p in kept]
        turn = [0] * len(recent) + [1 + p - pinned_start for p in kept]
        seen = []
        for data, scale, new in ((keys, key_scale, new_k), (values, value_scale, new_v[row, :, 0])):
            whole, step = (new, None) if scale is None else quantize(new)
            data[row, :, slot] = whole.to(data.dtype)
            if scale is not None and step is not None:
                scale[row, :, slot] = step
            seen.append(data[row].float() if scale is None else data[row].float() * scale[row])
        for head in range(heads):
            shared = head // (heads // kv_heads)
            score = (turned[row, head, turn] * seen[0][shared, at]).sum(-1) * dim**-0.5
            out[row, head] = score.softmax(0) @ seen[1][shared, at]
    return out.flatten(1).to(qkv)
