"""Attention of one row over the ring, split over its positions (flash decoding): keys and values are read once.

The positions that a row sees are divided among programs. Each finds the largest score m of its part, the sum `mass` of
exp(score - m) and the sum o of exp(score - m) * value; a second kernel joins them. (Dao et al., "Flash-Decoding for
long-context inference", 2023.)
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from accomp.core.streaming.kernels.operators import interpreted, operator, power_of_two, wrap_triton

BLOCK = 64
"""Positions that a program reads at a time."""
LEAST = 16
"""Smallest side of a matrix product on tensor cores."""


@triton.jit
def attend_kernel(
    queries,
    keys,
    key_scale,
    values,
    value_scale,
    position,
    outputs,
    largest,
    total,
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
):
    """Program (b * J + j, s) has the s-th SPAN of the positions that row b sees, for the GROUP queries of keys j.

    Arguments as in `attend`; outputs [B, H, SPLITS, d], and where SPLITS > 1 `largest` and `total` [B, H, SPLITS].
    A split beyond the positions that are held returns at once. The first one has the pinned positions as well.
    """
    head = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    g = tl.arange(0, BLOCK_GROUP)
    i = tl.arange(0, BLOCK_DIM)
    last = tl.load(position + head // KV_HEADS)
    first = tl.minimum(tl.maximum(last - WINDOW + 1, 0), last)  # a position below 0 sees itself alone
    begin = split * SPAN
    end = tl.minimum(begin + SPAN, (last - first + 1).to(tl.int32))
    part = (head * GROUP + g) * SPLITS + split
    if SPLITS > 1:  # noqa: SIM102 - known when it is compiled; the next is not
        if (begin >= end) & (split > 0):
            tl.store(largest + part, tl.full([BLOCK_GROUP], -1e30, tl.float32), mask=g < GROUP)
            tl.store(total + part, tl.zeros([BLOCK_GROUP], tl.float32), mask=g < GROUP)
            return
    oldest = (((first % CAPACITY) + CAPACITY) % CAPACITY).to(tl.int32)  # its slot of the ring; % of Triton's is C's
    vectors = head * (PINNED + CAPACITY)  # number of the first vector of these keys
    square = (g[:, None] < GROUP) & (i[None, :] < DIM)
    turn = (head * GROUP + g[:, None]) * (1 + PINNED) * DIM + i[None, :]
    q = tl.load(queries + turn, mask=square, other=0.0)
    if WIDE:  # Triton's interpreter has no product of bfloat16
        q = q.to(tl.float32)
    m = tl.full([BLOCK_GROUP], -1e30, tl.float32)
    mass = tl.zeros([BLOCK_GROUP], tl.float32)
    o = tl.zeros([BLOCK_GROUP, BLOCK_DIM], tl.float32)
    for start in range(begin, end, BLOCK):
        n = start + tl.arange(0, BLOCK)
        place = oldest + n
        place = PINNED + tl.where(place >= CAPACITY, place - CAPACITY, place)
        shown = (n < end) & ((first + n < PINNED_START) | (first + n >= PINNED_START + PINNED))
        mask = shown[:, None] & (i[None, :] < DIM)
        vector = (vectors + place)[:, None] * DIM + i[None, :]
        k = tl.load(keys + vector, mask=mask, other=0.0).to(q.dtype)
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
        v = tl.load(values + vector, mask=mask, other=0.0).to(q.dtype)
        o = o * shrink[:, None] + tl.dot(p.to(q.dtype), v, input_precision="ieee")
        m = new
    if split == 0:
        for pin in tl.static_range(PINNED):
            shown = PINNED_START + pin <= last
            mask = shown & (i < DIM)
            k = tl.load(keys + (vectors + pin) * DIM + i, mask=mask, other=0.0).to(tl.float32)
            v = tl.load(values + (vectors + pin) * DIM + i, mask=mask, other=0.0).to(tl.float32)
            back = tl.load(queries + turn + (1 + pin) * DIM, mask=square, other=0.0).to(tl.float32)
            score = tl.sum(back * k[None, :], axis=1) * FACTOR
            if key_scale is not None:
                score *= tl.load(key_scale + vectors + pin, mask=shown, other=0.0)
                v *= tl.load(value_scale + vectors + pin, mask=shown, other=0.0)
            new = tl.where(shown, tl.maximum(m, score), m)
            p = tl.where(shown, tl.exp(score - new), 0.0)
            shrink = tl.exp(m - new)
            mass = mass * shrink + p
            o = o * shrink[:, None] + p[:, None] * v[None, :]
            m = new
    if SPLITS == 1:
        o = o / mass[:, None]
    else:
        tl.store(largest + part, m, mask=g < GROUP)
        tl.store(total + part, mass, mask=g < GROUP)
    tl.store(outputs + part[:, None] * DIM + i[None, :], o.to(outputs.dtype.element_ty), mask=square)


@triton.jit
def join_kernel(
    outputs,
    largest,
    total,
    out,
    DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_SPLITS: tl.constexpr,
):
    """Program n joins the splits of head n of all B * H: outputs [B, H, SPLITS, d] -> out [B, H, d].

    Splits with a total of 0 have written no output.
    """
    head = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, BLOCK_SPLITS)
    i = tl.arange(0, BLOCK_DIM)
    m = tl.load(largest + head * SPLITS + s, mask=s < SPLITS, other=-1e30)
    mass = tl.load(total + head * SPLITS + s, mask=s < SPLITS, other=0.0)
    weight = tl.exp(m - tl.max(m, axis=0))
    mask = (mass[:, None] > 0.0) & (i[None, :] < DIM)
    o = tl.load(outputs + (head * SPLITS + s[:, None]) * DIM + i[None, :], mask=mask, other=0.0)
    y = tl.sum(o * weight[:, None], axis=0) / tl.sum(mass * weight, axis=0)
    tl.store(out + head * DIM + i, y.to(out.dtype.element_ty), mask=i < DIM)


def _like(queries: Tensor, *others: Any, **more: Any) -> Tensor:
    return queries.new_empty(len(queries), queries.shape[1] * queries.shape[3])


@operator("attend", changes=(), like=_like)
def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    position: Tensor,
    window: int,
    pinned_start: int,
    splits: int,
    key_scale: Tensor | None = None,
    value_scale: Tensor | None = None,
) -> Tensor:
    """Attend from one row of every session to its window and the pinned positions -> [B, H * d].

    Products are in the type of the queries, sums in float32. Positions, the start of the ring and what is held are read
    from the device.

    Args:
        queries: [B, H, 1 + P, d], from `remember`: rotated to the position, and to each pinned position's distance.
        keys, values: [B, J, L, d], of any type: slots of a RingKVCache, the row's own included.
        position: [B] int64, of the row.
        window: positions that it sees, itself included.
        pinned_start: the first of the P pinned positions.
        splits: programs that share the positions of a head.
        key_scale, value_scale: [B, J, L, 1] float32 of an int8 cache.
    """
    batch, heads, turns, dim = queries.shape
    kv_heads, slots = keys.shape[1:3]
    pinned, many = turns - 1, splits > 1
    out = torch.empty(batch, heads * dim, dtype=queries.dtype, device=queries.device)
    part = torch.empty(batch, heads, splits, dim, dtype=torch.float32, device=queries.device) if many else out
    largest = torch.empty(batch, heads, splits, dtype=torch.float32, device=queries.device) if many else None
    total = torch.empty(batch, heads, splits, dtype=torch.float32, device=queries.device) if many else None
    wrap_triton(attend_kernel)[(batch * kv_heads, splits)](
        queries, keys, key_scale, values, value_scale, position, part, largest, total,
        FACTOR=dim**-0.5, WINDOW=window, CAPACITY=slots - pinned, PINNED_START=pinned_start, PINNED=pinned,
        KV_HEADS=kv_heads, GROUP=heads // kv_heads, DIM=dim,
        SPLITS=splits, SPAN=span_of(window, splits), WIDE=interpreted(),
        BLOCK_GROUP=power_of_two(heads // kv_heads, LEAST), BLOCK_DIM=power_of_two(dim, LEAST), BLOCK=BLOCK,
    )  # fmt: skip
    if many:
        wrap_triton(join_kernel)[(batch * heads,)](
            part, largest, total, out,
            DIM=dim, SPLITS=splits, BLOCK_DIM=power_of_two(dim), BLOCK_SPLITS=power_of_two(splits),
        )  # fmt: skip
    return out


def splits_of(window: int, heads: int, processors: int) -> int:
    """Return how many programs share a head, so that `heads` of them fill the processors twice; each has a block."""
    return max(1, min(2 * processors // heads, triton.cdiv(window, BLOCK)))


def span_of(window: int, splits: int) -> int:
    """Return the number of positions of a split, whole blocks."""
    return triton.cdiv(triton.cdiv(window, splits), BLOCK) * BLOCK


def attend_in_torch(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    position: Tensor,
    window: int,
    pinned_start: int,
    splits: int,
    key_scale: Tensor | None = None,
    value_scale: Tensor | None = None,
) -> Tensor:
    """As `attend`, position by position."""
    batch, heads, turns, dim = queries.shape
    kv_heads, slots = keys.shape[1:3]
    pinned = range(pinned_start, pinned_start + turns - 1)
    capacity = slots - len(pinned)
    k = keys.float() if key_scale is None else keys.float() * key_scale
    v = values.float() if value_scale is None else values.float() * value_scale
    out = torch.empty(batch, heads, dim)
    for row, last in enumerate(position.tolist()):
        recent = [p for p in range(min(max(last - window + 1, 0), last), last + 1) if p not in pinned]
        kept = [p for p in pinned if p <= last]
        at = [len(pinned) + p % capacity for p in recent] + [p - pinned_start for p in kept]
        turn = [0] * len(recent) + [1 + p - pinned_start for p in kept]
        for head in range(heads):
            shared = head // (heads // kv_heads)
            score = (queries[row, head, turn].float() * k[row, shared, at]).sum(-1) * dim**-0.5
            out[row, head] = score.softmax(0) @ v[row, shared, at]
    return out.flatten(1).to(queries)
