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
    """Compare both for rows at these positions; slots that RingKVCache hides from them hold NaN, as those of the rows.

    The row's key and value are in its slot then, and nothing else has changed.
    """
    batch, turns = len(positions), 1 + len(pinned)
    ring = RingKVCache(batch, window, layers=1, heads=1, head_dim=2, chunk=chunk, pinned=pinned, device=DEVICE)
    ring.rollback(torch.tensor(positions, device=DEVICE))
    span = ring.span(1)
    shape = (batch, kv_heads, len(pinned) + ring.capacity, dim)
    qkv = vectors(batch, (heads + 2 * kv_heads) * dim, seed=3, dtype=dtype)
    qk_scale = vectors(heads + kv_heads, 1, dim, seed=4, dtype=dtype)
    cos, sin = vectors(batch, turns, dim, seed=5), vectors(batch, turns, dim, seed=6)
    before = [Stored.of(vectors(*shape, seed=seed), cache) for seed in (1, 2)]
    new = torch.zeros_like(span.hidden[:, 0]).scatter(1, span.slot, True)
    for one in before:
        one.spoil(span.hidden[:, 0] | new)
    arrived = torch.zeros(batch * kv_heads, dtype=torch.int32, device=DEVICE)
    (keys, values), given = (one.copy() for one in before), (1e-3, window, pinned.start)
    seen = attend(
        qkv, qk_scale, cos, keys.data, values.data, sin, ring.position, arrived, *given, splits, keys.scale,
        values.scale,
    )  # fmt: skip
    mine = (keys, values)
    keys, values = theirs = [one.copy() for one in before]
    wanted = attend_in_torch(
        qkv, qk_scale, cos, keys.data, values.data, sin, ring.position, *given, keys.scale, values.scale
    )
    expect_near(seen, wanted, dtype)
    assert not arrived.any()
    for own, other, old in zip(mine, theirs, before, strict=True):
        own.expect_near(other, new, cache)
        assert own.equal(old, ~new), "nothing else is written"


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


@pytest.mark.parametrize("cache", [FLOAT32, INT8], ids=str)
@pytest.mark.parametrize("position", [0, 1, 2, 3, 4])
def test_pinned_positions_are_stored_and_seen_at_once(position, cache):
    compare([position, 100], 70, pinned=range(1, 3), splits=2, cache=cache)


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


def stored(value: torch.Tensor, cache: torch.dtype) -> tuple[torch.Tensor, Stored, Stored]:
    """Attend from a row of one head with queries and keys of ones, and store it -> output, key, value."""
    keys, values = (Stored.of(torch.zeros(1, 1, 1, len(value), device=DEVICE), cache) for _ in range(2))
    qkv = torch.cat([torch.ones(2 * len(value), device=DEVICE), value])[None]
    ones, zero = torch.ones(2, 1, len(value), device=DEVICE), torch.zeros(1, dtype=torch.int64, device=DEVICE)
    out = attend(
        qkv, ones, ones[:1], keys.data, values.data, 0 * ones[:1], zero, zero.int(), 1e-6, 1, 0, 1, keys.scale,
        values.scale,
    )  # fmt: skip
    return out, keys, values


def test_whole_numbers_are_rounded_to_even_as_torch_rounds():
    """127, then halves of a step: with a scale of 1 each tie is seen. A row alone attends to what it stores."""
    value = torch.tensor([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -3.5], device=DEVICE)
    out, _, values = stored(value, INT8)
    assert values.data.flatten().tolist() == [127, 0, 2, 2, 0, -2, -2, -4]
    assert values.scale.item() == 1.0
    assert out.flatten().tolist() == [127, 0, 2, 2, 0, -2, -2, -4]


def test_a_value_of_zeros_is_stored_as_zeros():
    out, _, values = stored(torch.zeros(8, device=DEVICE), INT8)
    assert not values.data.any()
    assert not out.any()


def test_the_reference_is_independent_arithmetic():
    """Position 5 in a ring of two, slots 1 and 2, the pinned one, 0, before them."""
    qkv, cos, sin = vectors(1, 12, seed=1), vectors(1, 2, 4, seed=2), vectors(1, 2, 4, seed=3)
    keys, values, scale = vectors(1, 1, 3, 4), vectors(1, 1, 3, 4, seed=1), vectors(2, 1, 4, seed=4)
    k, v = keys[0, 0].clone(), values[0, 0].clone()
    out = attend_in_torch(qkv, scale, cos, keys, values, sin, torch.tensor([5], device=DEVICE), 0.1, 2, 0)
    q, new, v[2] = qkv[0].view(3, 4)
    q, new = (x / (x.pow(2).mean() + 0.1).sqrt() * scale[n, 0] for n, x in enumerate((q, new)))
    swapped = [2, 3, 0, 1]
    near, far = (q * cos[0, turn] + q[swapped] * sin[0, turn] for turn in range(2))
    k[2] = new * cos[0, 0] + new[swapped] * sin[0, 0]
    weight = torch.stack([far @ k[0], near @ k[1], near @ k[2]]).div(2).exp()
    torch.testing.assert_close(out[0], (weight @ v) / weight.sum())
    torch.testing.assert_close(keys[0, 0], k)
    torch.testing.assert_close(values[0, 0], v)


def test_a_pinned_key_is_stored_as_it_is():
    """Unrotated, and seen through the query's rotation to its distance."""
    qkv, cos, sin = vectors(1, 12, seed=1), vectors(1, 2, 4, seed=2), vectors(1, 2, 4, seed=3)
    keys, values, scale = vectors(1, 1, 3, 4), vectors(1, 1, 3, 4, seed=1), torch.ones(2, 1, 4, device=DEVICE)
    attend_in_torch(qkv, scale, cos, keys, values, sin, torch.tensor([0], device=DEVICE), 0.1, 2, 0)
    new = qkv[0, 4:8]
    torch.testing.assert_close(keys[0, 0, 0], new / (new.pow(2).mean() + 0.1).sqrt())
    torch.testing.assert_close(values[0, 0, 0], qkv[0, 8:])
