"""Rings between threads: what is written is read once, in order and at its place; a full ring takes no more."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accomp.core.realtime.ring_buffers import BlockFifo, SampleRing

puts_and_gets = st.lists(st.sampled_from(["put", "get"]), max_size=60)


@settings(deadline=None)
@given(st.integers(1, 5), puts_and_gets)
def test_blocks_come_out_as_they_went_in_and_a_full_ring_takes_none(blocks, actions):
    ring, waiting, place = BlockFifo(blocks, 3), [], 0
    for action in actions:
        if action == "put":
            taken = ring.put(place, np.full(3, place, dtype=np.float32))
            assert taken == (len(waiting) < blocks)
            waiting += [place] * taken
            place += 3
        else:
            got = ring.get()
            assert (got is None) == (not waiting)
            if got is not None:
                assert got[0] == waiting.pop(0)
                np.testing.assert_array_equal(got[1], got[0])
        assert len(ring) == len(waiting)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 30), st.data())
def test_samples_are_read_at_their_place_or_never(capacity, first, data):
    ring = SampleRing(capacity, past=first)
    place, written = first, 0
    for _ in range(data.draw(st.integers(1, 15))):
        if data.draw(st.booleans()):
            count = data.draw(st.integers(0, 12))
            taken = ring.write(np.arange(written, written + count, dtype=np.float32))
            assert taken == min(count, place + capacity - written)
            written += taken
        else:
            out = np.full(data.draw(st.integers(1, 9)), -1, dtype=np.float32)
            there = ring.read(place, out)
            assert there == min(max(0, written - place), len(out))
            np.testing.assert_array_equal(out[:there], np.arange(place, place + there))
            place += len(out)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_threads_share_them_without_a_sample_amiss(seed):
    """Every block and every sample that two free-running threads pass on is whole, in order and at its place."""
    blocks, placed, count = BlockFifo(3, 16), SampleRing(100), 150
    amiss: list[str] = []

    def write() -> None:
        sizes, made = np.random.default_rng(seed), 0
        for number in range(count):
            while not blocks.put(16 * number, np.full(16, number, dtype=np.float32)):
                time.sleep(0)
            some = np.arange(made, made + sizes.integers(0, 50), dtype=np.float32)
            made += placed.write(some)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    sizes, place, number = np.random.default_rng(seed + 1), 0, 0
    while number < count:
        got = blocks.get()
        if got is not None:
            if got[0] != 16 * number or not (got[1] == number).all():
                amiss.append(f"block {number}: {got}")
            number += 1
        else:
            time.sleep(0)
        out = np.empty(sizes.integers(1, 40), dtype=np.float32)
        if placed.written >= place:
            there = placed.read(place, out)
            if not (out[:there] == np.arange(place, place + there)).all():
                amiss.append(f"place {place}: {out[:there]}")
            place += len(out)
    writer.join(timeout=60)
    assert not writer.is_alive()
    assert not amiss
