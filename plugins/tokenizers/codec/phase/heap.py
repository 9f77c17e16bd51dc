"""Phases of a frame by heap integration: gradients of the phase, integrated from loud bins to quiet ones.

Z. Prusa, P. Sondergaard, Real-time spectrogram inversion using phase gradient heap integration, DAFx 2016.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from accomp.plugins.tokenizers.codec.phase.machine import machine

Array = np.ndarray[Any, Any]

NODE = 2**20 - 1
"""The bits of a key that say whose it is."""


class Room(NamedTuple):
    """What `integrate` writes on."""

    todo: Array
    keys: Array
    heap: Array


@machine
def room(bins: int) -> Room:
    return Room(np.empty(bins, np.bool_), np.empty((2, bins), np.float32), np.empty(2 * bins, np.int64))


@machine
def integrate(
    now: Array, before: Array, floor: float, across: Array, fall: Array, phase: Array, room: Room
) -> None:  # fmt: skip
    """Phases of the bins of `now` over the floor, into `phase`; all arrays [bins].

    now, before: magnitudes of this frame and the last; across: phases that come from the last frame; fall: as of
    over_frequency; phase: holds at first what the other bins keep. The loudest bin of an onset after silence gets 0.
    """
    todo, bits, heap, bins = room.todo, room.keys.view(np.int32), room.heap, len(now)
    room.keys[0], room.keys[1] = before, now
    left, size = _open(now, before, floor, bits, todo, heap)
    while left:
        if size == 0:
            m = _loudest(now, todo)
            phase[m], todo[m] = 0.0, False
            left, size, heap[0] = left - 1, 1, _key(bits[1, m], bins + m)
        node = heap[0] & NODE
        size -= 1
        heap[0] = heap[size]
        _sink(heap, size, 0)
        if node < bins:
            if todo[node]:
                phase[node], todo[node] = across[node], False
                _rise(heap, size, _key(bits[1, node], bins + node))
                left, size = left - 1, size + 1
            continue
        m = node - bins
        for k in (m + 1, m - 1):
            if 0 <= k < bins and todo[k]:
                phase[k], todo[k] = phase[m] + 0.5 * (k - m) * (fall[m] + fall[k]), False
                _rise(heap, size, _key(bits[1, k], bins + k))
                left, size = left - 1, size + 1


@machine
def _open(now: Array, before: Array, floor: float, bits: Array, todo: Array, heap: Array) -> tuple[int, int]:
    """Bins over the floor, of which those of the last frame go on the heap -> how many are open, how many on it."""
    left = size = 0
    for m in range(len(now)):
        todo[m] = now[m] > floor
        left += todo[m]
        if todo[m] and before[m] > floor:
            heap[size] = _key(bits[0, m], m)
            size += 1
    for at in range(size // 2 - 1, -1, -1):
        _sink(heap, size, at)
    return left, size


@machine
def _key(bits: int, node: int) -> int:
    """Of two nodes the louder has the larger: the bits of floats that are not negative are in the floats' order."""
    return (np.int64(bits) << 20) | node  # type: ignore[return-value]


@machine
def _sink(heap: Array, size: int, at: int) -> None:
    key, child = heap[at], 2 * at + 1
    while child < size:
        larger = heap[child]
        if child + 1 < size and heap[child + 1] > larger:
            child += 1
            larger = heap[child]
        if larger <= key:
            break
        heap[at] = larger
        at, child = child, 2 * child + 1
    heap[at] = key


@machine
def _rise(heap: Array, at: int, key: int) -> None:
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent] >= key:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = key


@machine
def _loudest(now: Array, todo: Array) -> int:
    found = -1
    for m in range(len(now)):
        if todo[m] and (found < 0 or now[m] > now[found]):
            found = m
    return found
