"""Buckets of a batch: a step of its first n slots alone, where no session is in the others.

Each has a graph of its own, over the same memory: its state is the first n rows of the batch's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from accomp.core.keyed_random import KeyedRandom
from accomp.core.streaming.kv_cache import QuantizedBuffer, RingKVCache
from accomp.core.streaming.step import Step


def powers(batch: int) -> tuple[int, ...]:
    """1, 2, 4 and so on, below `batch`, and `batch`."""
    return (*(2**n for n in range((batch - 1).bit_length())), batch)


class Buckets:
    """Steps of the first n of B slots, for each n of some sizes; the smallest that holds all sessions is used.

    Attributes:
        sizes: in ascending order, the last is B.
    """

    def __init__(self, step: Any, sizes: Sequence[int], *, compiled: bool):
        """compiled: make a graph for each. Raises ValueError for a size that is none, and for a step whose slots are
        not rows of their own: one with guidance, or of latents.
        """
        batch = len(step.steps) if isinstance(step, Step) else 0
        if not isinstance(step, Step) or step.rows != batch or not isinstance(step.state, RingKVCache):
            raise ValueError("buckets are for models of codes that play without guidance")
        if wrong := [size for size in sizes if not 1 <= size <= batch]:
            raise ValueError(f"buckets of {wrong} slots in a batch of {batch}")
        self._step = step
        self._whole = step.prefill, step.decode
        self._parts = {size: _first(step, size, compiled) for size in sorted(set(sizes)) if size < batch}
        self.sizes = (*self._parts, batch)

    def use(self, slots: int) -> int:
        """Let the step compute the first `slots` slots at least -> how many it does."""
        size = next(size for size in self.sizes if size >= slots)
        if size not in self._parts:
            self._step.prefill, self._step.decode = self._whole
            return size
        step, part = self._step, self._parts[size]

        def prefill(x: Tensor) -> Tensor:
            part.prefill(x[:size])
            return step.layout.undelay(step.steps)

        def decode() -> Tensor:
            part.decode()
            return step.layout.undelay(step.steps)

        step.prefill, step.decode = prefill, decode
        return size


def _first(step: Step, size: int, compiled: bool) -> Step:
    """A step of the first slots, in the memory of the whole one."""
    part = copy.copy(step)
    part.rows = size
    part.noise = KeyedRandom(step.noise.key[:size])
    part.controls = {name: control[:size] for name, control in step.controls.items()}
    part.start = None if step.start is None else step.start[:size]
    part.steps = step.steps[:size]
    part.timelines = {name: values[:size] for name, values in step.timelines.items()}
    part.hearing = None if step.hearing is None else step.hearing.first(size)
    assert isinstance(step.state, RingKVCache), "batches play from a KV cache"
    part.state = _first_rows(step.state, size)
    part.prefill, part.decode = part._prefill, part._decode
    if compiled:
        part._compile()
    return part


def _first_rows(state: RingKVCache, size: int) -> RingKVCache:
    part = copy.copy(state)
    part.position = state.position[:size]
    part.keys = [_first_vectors(buffer, size) for buffer in state.keys]
    part.values = [_first_vectors(buffer, size) for buffer in state.values]
    return part


def _first_vectors(buffer: QuantizedBuffer, size: int) -> QuantizedBuffer:
    part = copy.copy(buffer)
    part.data = buffer.data[:size]
    part.scale = None if buffer.scale is None else buffer.scale[:size]
    return part
