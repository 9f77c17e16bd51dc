"""Layers over frames on a CPU, by numba kernels with a fixed order of operations; see kernels.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.phase.lanes import aligned, reads_halves
from accomp.plugins.tokenizers.codec.streams.causal import FixedHistory
from accomp.plugins.tokenizers.codec.streams.cpu import kernels
from accomp.plugins.tokenizers.codec.streams.cpu.kernels import Array


class Layers:
    """magnitude_network.through: a first layer, blocks, a norm and a last layer; weights must not change."""

    def __init__(self, first: nn.Module, blocks: Any, norm: Any, last: nn.Module):
        self._first, self._last = _layer(first), _layer(last)
        self._blocks = [(block, _block(block)) for block in blocks]
        self._norm = _norm(norm)

    def begin(self, batch: int) -> dict[nn.Module, Tensor]:
        """Return the initial state of the blocks: zeros."""
        return {block: torch.zeros(batch, block.kernel - 1, len(block.scale)) for block, _ in self._blocks}

    def __call__(self, x: Array, history: FixedHistory) -> Array:
        """x [B * T, n] float32 -> [B * T, m]; n is a multiple of 4."""
        return self.branch(self.trunk(x, history))

    def trunk(self, x: Array, history: FixedHistory) -> Array:
        """x [B * T, n] float32 -> input of the last layer [B * T, D]; n is a multiple of 4."""
        h = kernels.linear(x, *self._first)
        for block, weights in self._blocks:
            h = kernels.block(h, history.of(block).numpy(), *weights)
        normed: Array = kernels.norm(h, *self._norm)
        return normed

    def branch(self, h: Array) -> Array:
        """Input of the last layer [B * T, D] -> [B * T, m]."""
        out: Array = kernels.linear(h, *self._last)
        return out


def sparse(filters: Tensor) -> tuple[Array, Array]:
    """Filters [n, bins] -> index of the first nonzero bin of each [n], and the weights from there [n, widest]."""
    used = (filters != 0).int()
    first = used.argmax(1)
    last = filters.shape[1] - 1 - used.flip(1).argmax(1)
    widest = int((last - first).max()) + 1
    padded = torch.cat([filters, filters.new_zeros(len(filters), widest)], dim=1)
    return first.numpy(), torch.stack([row[i : i + widest] for row, i in zip(padded, first, strict=True)]).numpy()


def array(tensor: Tensor) -> Array:
    """Return a tensor as float32 array on the CPU."""
    found: Array = aligned(tensor.detach().float().numpy())
    return found


def matrix(weight: Tensor) -> Array:
    """Return the matrix of a product as `kernels.linear` takes it: float16 if that is exact, as for codec files."""
    weight = weight.detach().float().cpu()
    halves = weight.half()
    if reads_halves() and weight.shape[1] >= kernels.NARROW and torch.equal(halves.float(), weight):
        found: Array = aligned(halves.numpy().view(np.uint16))
        return found
    return array(weight)


def _layer(layer: Any) -> tuple[Array, Array]:
    return matrix(layer.weight.T), array(layer.bias)


def _norm(norm: Any) -> tuple[Array, Array, float]:
    return array(norm.weight), array(norm.bias), norm.eps


def _block(block: Any) -> tuple[Any, ...]:
    gain, bias, eps = _norm(block.norm)
    return eps, array(block.taps), gain, bias, *_layer(block.expand), *_layer(block.contract), array(block.scale)
