"""A ring-buffer KV cache: attention over a window, in memory of constant size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from accomp.core.streaming.quantize import quantize
from accomp.core.streaming.row_kernels import RowKernels


class CacheSlots(NamedTuple):
    """Storage and visibility of the S positions of one call, the same for every layer.

    Attributes:
        position: [B, S] int64, absolute.
        pinned: [B, S] bool, whether the position is one of the pinned ones.
        slot: [B, S] int64, storage of its key and value.
        hidden: [B, S, L] bool, slots that are masked for it.
        distance: [B, S, P] int64, effective distance to each pinned position.
    """

    position: Tensor
    pinned: Tensor
    slot: Tensor
    hidden: Tensor
    distance: Tensor


NOWHERE = -(2**62)
"""Position of a vector that is in no slot."""


class QuantizedBuffer:
    """Vectors [B, H, L, d] in slots; as torch.int8 each is integers up to 127 times a scale of its own."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str):
        self.data = torch.zeros(shape, dtype=dtype, device=device)
        self.scale = torch.zeros(*shape[:-1], 1, device=device) if dtype == torch.int8 else None

    def write(self, slot: Tensor, new: Tensor) -> Tensor:
        """Write new [B, H, S, d] into slots [B, S]; returns all slots, in the type of `new`."""
        item = torch.arange(new.shape[0], device=new.device)[:, None, None]
        head = torch.arange(new.shape[1], device=new.device)[:, None]
        place = (item, head, slot[:, None])  # index_put_ compiles to writing in place, scatter_ to a copy of it all
        if self.scale is None:
            self.data.index_put_(place, new.to(self.data.dtype))
            return self.data.to(new.dtype)
        whole, scale = quantize(new)
        self.scale.index_put_(place, scale)
        self.data.index_put_(place, whole)
        return (self.data * self.scale).to(new.dtype)

    @property
    def parts(self) -> tuple[Tensor, Tensor | None]:
        """Numbers and scales as they are stored."""
        return self.data, self.scale

    @property
    def bytes(self) -> int:
        """Size in memory."""
        return self.data.nbytes + (0 if self.scale is None else self.scale.nbytes)


class RingKVCache:
    """Keys and values of the last positions of B sessions, and of P pinned positions that stay visible for ever.

    A position attends to the last `window` positions, itself included, and the pinned ones. Slots 0..P-1 hold the
    pinned positions, the other window + chunk - 1 are a ring: position p is in slot P + p % (window + chunk - 1). The
    content of a slot follows from the position alone, so that a rollback only sets the position.

    A pinned position that has left the window counts as lying just before it: its distance stops growing, so that no
    distance exceeds those of training (attention sinks, arXiv 2309.17453).

    Attributes:
        position: [B] int64, number of positions that each session has absorbed.
        keys, values: of each layer, [B, H, L, d], L = P + window + chunk - 1.
        kernels: compute single rows (row_kernels.py); None, as at first: torch does.

    Positions below 0 lie before the start: each attends to itself alone, and no other attends to it.
    """

    def __init__(
        self,
        batch: int,
        window: int,
        *,
        layers: int,
        heads: int,
        head_dim: int,
        chunk: int = 1,
        pinned: range = range(0),
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        """dtype: of the cache; torch.int8 keeps a scale for every vector. Raises ValueError for a window or chunk
        below 1.
        """
        if window < 1 or chunk < 1:
            raise ValueError(f"window {window} and chunk {chunk} must be at least 1 position")
        self.window, self.chunk, self.pinned = window, chunk, pinned
        self.capacity = window + chunk - 1
        self.position = torch.zeros(batch, dtype=torch.int64, device=device)
        shape = (batch, heads, len(pinned) + self.capacity, head_dim)
        self.keys = [QuantizedBuffer(shape, dtype, device) for _ in range(layers)]
        self.values = [QuantizedBuffer(shape, dtype, device) for _ in range(layers)]
        self.kernels: RowKernels | None = None
        self._ring = torch.arange(self.capacity, device=device)
        self._always = torch.arange(pinned.start, pinned.stop, device=device)
        self._farthest = torch.arange(self.window - 1 + len(pinned), self.window - 1, -1, device=device)

    def span(self, length: int, causal: bool = True) -> CacheSlots:
        """Slots of the next S = `length` positions; where not `causal`, all attend to the same as the last one.

        Raises ValueError for more than `chunk`: they would overwrite each other.
        """
        if length > self.chunk:
            raise ValueError(f"{length} positions in one call; this state was made for at most {self.chunk}")
        fixed = len(self.pinned)
        position = self.position[:, None] + self._ring[:length]
        pinned = self._is_pinned(position)
        slot = torch.where(pinned, position - self.pinned.start, fixed + position % self.capacity)

        last = position[:, -1:]
        newest = position[..., None] if causal else last[..., None].expand(-1, length, -1)
        stored = last - (last - self._ring) % self.capacity  # position in each slot of the ring
        stored = torch.where(self._is_pinned(stored), NOWHERE, stored)[:, None]
        oldest = torch.minimum((newest - self.window + 1).clamp(min=0), newest)
        hidden = torch.cat([self._always > newest, (stored > newest) | (stored < oldest)], dim=-1)
        distance = torch.minimum(newest - self._always, self._farthest)
        return CacheSlots(position, pinned, slot, hidden, distance)

    def _is_pinned(self, position: Tensor) -> Tensor:
        return (position >= self.pinned.start) & (position < self.pinned.stop)

    def write(self, layer: int, span: CacheSlots, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values [B, H, S, d] of a span; returns those of the whole layer, [B, H, L, d] twice."""
        return self.keys[layer].write(span.slot, keys), self.values[layer].write(span.slot, values)

    def attend_row(self, layer: int, qkv: Tensor, qk_scale: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Store the next row's key and value and attend from it, by the kernels: qkv [B, 1, (H + 2 J) d] -> [B, 1, H
        d].

        qk_scale: [H + J, 1, d]; cos, sin: [B, 1, 1, 1 + P, d], rotations to the position and to the pinned distances
        (kernels/ring_attention.py).
        """
        assert self.kernels is not None
        keys, values, start = self.keys[layer].parts, self.values[layer].parts, self.pinned.start
        o = self.kernels.attend(qkv[:, 0], qk_scale, cos, sin, self.position, self.window, start, keys, values)
        return o[:, None]

    def advance(self, length: int) -> None:
        """Count `length` positions as absorbed by every layer."""
        self.position.add_(length)

    def rollback(self, position: Tensor) -> None:
        """Drop the positions from `position` [B] on; at most `chunk`, older ones have been overwritten."""
        self.position.copy_(position)

    def reset(self, rows: Tensor) -> None:
        """Restart the sessions where the bool mask [B] is true; the others go on unchanged."""
        self.position.masked_fill_(rows, 0)
