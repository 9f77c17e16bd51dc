"""Split attention over the ring equals a softmax over the positions, one by one, and reads no other slot."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_inputs import DEVICE, Stored, expect_near, vectors

from accomp.core.streaming.kernels.ring_attention import BLOCK, attend, attend_in_torch, span_of, splits_of
from accomp.core.streaming.kv_cache import RingKVCache

FLOAT32, BFLOAT16, INT8 = torch.float32, torch.bfloat16, torch.int8


def compare(
    positions: list[int],
    window: int,
    *,
    chunk: int = 1,
    pinned: range = range(0),
    heads: int = 2,
    kv_heads: int = 1,
    dim: int = 8,
    splits: int = 1,
    dtype: torch.dtype = FLOAT32,
    cache: torch.dtype = FLOAT32,
) -> None:
    """Compare both for rows at these positions; slots that RingKVCache hides from them hold NaN."""
    ring = RingKVCache(len(positions), window, layers=1, heads=1, head_dim=2, chunk=chunk, pinned=pinned, device=DEVICE)
    ring.rollback(torch.tensor(positions, device=DEVICE))
    hidden = ring.span(1).hidden[:, 0]
    shape = (len(positions), kv_heads, len(pinned) + ring.capacity, dim)
    keys, values = (Stored.of(vectors(*shape, seed=seed), cache) for seed in (1, 2))
    queries = vectors(len(positions), heads, 1 + len(pinned), dim, seed=3, dtype=dtype)
    given = (ring.position, window, pinned.start, splits)
    wanted = attend_in_torch(queries, keys.data, values.data, *given, keys.scale, values.scale)
    for one in (keys, values):
        one.spoil(hidden)
    seen = attend(queries, keys.data, values.data, *given, keys.scale, values.scale)
    expect_near(seen, wanted, dtype)


@pytest.mark.parametrize("splits", [1, 2, 3])
@pytest.mark.parametrize(
    ("dtype", "cache"), [(FLOAT32, FLOAT32), (BFLOAT16, BFLOAT16), (FLOAT32, INT8), (BFLOAT16, INT8)], ids=str
)
def test_young_full_and_wrapped_rings_of_every_type(dtype, cache, splits):
    compare([0, 70, 129, 130, 1000], 130, pinned=range(1), splits=splits, dtype=dtype, cache=cache)


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 3), (6, 2), (20, 1)])
@pytest.mark.parametrize("dim", [2, 24, 64])
def test_groups_and_sizes_of_heads(dim, heads, kv_heads):
    compare([9, 90], 70, pinned=range(1), heads=heads, kv_heads=kv_heads, dim=dim, splits=2)


@pytest.mark.parametrize("batch", [1, 8])
def test_every_row_has_a_position_of_its_own(batch):
    compare([7 * row - 2 for row in range(batch)], 5, chunk=4, splits=2)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_ring(data):
    window, chunk = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 5))
    start, count = data.draw(st.integers(-2, 6)), data.draw(st.integers(0, 3))
    positions = data.draw(st.lists(st.integers(-5, 400), min_size=1, max_size=3))
    compare(positions, window, chunk=chunk, pinned=range(start, start + count), splits=data.draw(st.integers(1, 4)))


def test_a_long_session_is_exact_where_32_bits_end():
    compare([2**31 - 1, 2**31, 2**40], 70, splits=2)


def test_splits_fill_the_processors_and_none_is_empty():
    for window in (1, BLOCK, BLOCK + 1, 500, 3000):
        for heads in (1, 8, 64, 2048):
            splits = splits_of(window, heads, 132)
            assert 1 <= splits <= max(1, 2 * 132 // heads)
            assert span_of(window, splits) % BLOCK == 0
            assert splits * span_of(window, splits) >= window
    assert splits_of(500, 8, 132) == math.ceil(500 / BLOCK), "a block each: no more than there are"
    assert splits_of(3000, 2048, 132) == 1, "a batch fills the processors without"


def test_the_reference_is_independent_arithmetic():
    """Three positions in a ring of two; the pinned one, 0, with a query of its own."""
    keys, values, queries = vectors(1, 1, 3, 4), vectors(1, 1, 3, 4, seed=1), vectors(1, 1, 2, 4, seed=2)
    out = attend_in_torch(queries, keys, values, torch.tensor([5], device=DEVICE), 2, 0, 1)
    k, v, (near, far) = keys[0, 0], values[0, 0], queries[0, 0]
    weight = torch.stack([far @ k[0], near @ k[1], near @ k[2]]).div(2).exp()
    torch.testing.assert_close(out[0], (weight @ v) / weight.sum())
