"""Query-key norm, rotation and the write into the ring in one kernel equal the same in torch."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import DEVICE, Stored, expect_near, vectors

from accomp.core.streaming.kernels.ring_write import remember, remember_in_torch

BATCH, SLOTS = 2, 5


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 1)])
@pytest.mark.parametrize("pinned", [0, 2])
@pytest.mark.parametrize("dim", [8, 12])
@pytest.mark.parametrize(
    ("dtype", "cache"),
    [
        (torch.float32, torch.float32),
        (torch.float32, torch.int8),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.int8),
    ],
    ids=str,
)
def test_it_stores_and_rotates_as_torch_does(dtype, cache, dim, pinned, heads, kv_heads):
    qkv = vectors(BATCH, (heads + 2 * kv_heads) * dim, seed=1, dtype=dtype)
    qk_scale = vectors(heads + kv_heads, 1, dim, seed=2, dtype=dtype)
    cos, sin = vectors(BATCH, 1 + pinned, dim, seed=3), vectors(BATCH, 1 + pinned, dim, seed=4)
    slot, is_pinned = torch.tensor([4, 0], device=DEVICE), torch.tensor([False, True], device=DEVICE)
    before = [Stored.of(vectors(BATCH, kv_heads, SLOTS, dim, seed=seed), cache) for seed in (5, 6)]
    found = []
    for way in (remember, remember_in_torch):
        keys, values = (one.copy() for one in before)
        queries = way(qkv, qk_scale, cos, keys.data, values.data, sin, slot, is_pinned, 1e-3, keys.scale, values.scale)
        found.append((queries, keys, values))
    expect_near(found[0][0], found[1][0], dtype)
    for mine, theirs, old in zip(found[0][1:], found[1][1:], before, strict=True):
        if cache == torch.int8:
            assert (mine.data.int() - theirs.data.int()).abs().max() <= 1
            torch.testing.assert_close(mine.scale, theirs.scale)
        else:
            expect_near(mine.data, theirs.data, dtype)
        for row, place in enumerate(slot.tolist()):
            others = [other for other in range(SLOTS) if other != place]
            assert torch.equal(mine.data[row, :, others], old.data[row, :, others]), "nothing else is written"
            assert not torch.equal(mine.data[row, :, place], old.data[row, :, place])


def test_whole_numbers_are_rounded_to_even_as_torch_rounds():
    """127, then halves of a step: with a scale of 1 each tie is seen."""
    value = torch.tensor([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -3.5], device=DEVICE)
    qkv = torch.cat([torch.ones(16, device=DEVICE), value])[None]
    keys, values = (Stored.of(torch.zeros(1, 1, 1, 8, device=DEVICE), torch.int8) for _ in range(2))
    one = torch.ones(1, 1, 8, device=DEVICE)
    remember(
        qkv, torch.ones(2, 1, 8, device=DEVICE), one, keys.data, values.data, one,
        torch.zeros(1, dtype=torch.int64, device=DEVICE), torch.zeros(1, dtype=torch.bool, device=DEVICE),
        1e-6, keys.scale, values.scale,
    )  # fmt: skip
    assert values.data.flatten().tolist() == [127, 0, 2, 2, 0, -2, -2, -4]
    assert values.scale.item() == 1.0


def test_a_vector_of_zeros_is_stored_as_zeros():
    keys, values = (Stored.of(vectors(1, 1, 1, 8), torch.int8) for _ in range(2))
    one = torch.ones(1, 1, 8, device=DEVICE)
    queries = remember(
        torch.zeros(1, 24, device=DEVICE), torch.ones(2, 1, 8, device=DEVICE), one, keys.data, values.data, one,
        torch.zeros(1, dtype=torch.int64, device=DEVICE), torch.zeros(1, dtype=torch.bool, device=DEVICE),
        1e-6, keys.scale, values.scale,
    )  # fmt: skip
    assert not queries.any()
    assert not keys.data.any()
    assert not values.data.any()


def test_the_reference_is_independent_arithmetic():
    qkv, cos, sin = vectors(1, 12, seed=1), vectors(1, 2, 4, seed=2), vectors(1, 2, 4, seed=3)
    keys, values = torch.zeros(1, 1, 2, 4, device=DEVICE), torch.zeros(1, 1, 2, 4, device=DEVICE)
    slot, pinned = torch.tensor([1], device=DEVICE), torch.tensor([False], device=DEVICE)
    scale = vectors(2, 1, 4, seed=4)
    queries = remember_in_torch(qkv, scale, cos, keys, values, sin, slot, pinned, 0.1)
    q, k, v = qkv[0].view(3, 4)
    q, k = (x / (x.pow(2).mean() + 0.1).sqrt() * scale[n, 0] for n, x in enumerate((q, k)))
    swapped = [2, 3, 0, 1]
    for turn in range(2):
        torch.testing.assert_close(queries[0, 0, turn], q * cos[0, turn] + q[swapped] * sin[0, turn])
    torch.testing.assert_close(keys[0, 0, 1], k * cos[0, 0] + k[swapped] * sin[0, 0])
    torch.testing.assert_close(values[0, 0, 1], v)
