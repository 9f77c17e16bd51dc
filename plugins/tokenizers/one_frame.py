"""A single frame through a CausalBlock as machine code, which numba makes: live playing spends its time there.

torch takes ten operations for it, each of which costs more than its arithmetic, and reads the weights of an encoder in
float64. Here they are read in float32, exactly what the file holds, and every product and sum is in the type of x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]
Kernel = Callable[..., None]


def compiled() -> Kernel | None:
    """The kernel, made when first called with a type of x (seconds; then kept on disk). None without numba."""
    try:
        from numba import njit
    except ImportError:
        return None
    options: dict[str, Any] = {"fastmath": True, "nogil": True, "error_model": "numpy"}
    try:
        return njit(_frame, cache=True, **options)
    except RuntimeError:  # there is no folder where it could keep what it makes
        return njit(_frame, **options)


class OneFrame:
    """One block, ready to be called with frames of its type; `kernel` is what `compiled` gave."""

    def __init__(self, kernel: Kernel, block: Any):
        self._kernel = kernel
        self._eps = block.norm.eps
        norm, expand, contract = block.norm, block.expand, block.contract
        weights = [block.taps, norm.weight, norm.bias, expand.weight, expand.bias, contract.weight, contract.bias]
        self._weights = [tensor.detach().float().cpu().contiguous().numpy() for tensor in (*weights, block.scale)]
        with torch.no_grad():  # so that the machine code is made now, not when somebody plays
            past = torch.zeros(1, block.kernel - 1, len(block.scale), dtype=block.taps.dtype)
            self(torch.zeros(1, 1, len(block.scale), dtype=block.taps.dtype), past)

    def __call__(self, x: Tensor, past: Tensor) -> Tensor:
        """x [1, 1, D], past [1, kernel - 1, D] -> [1, 1, D]; x is moved into the past, in place."""
        out = torch.empty_like(x)
        self._kernel(x[0, 0].numpy(), past[0].numpy(), out[0, 0].numpy(), self._eps, *self._weights)
        return out


def _frame(
    x: Array, past: Array, out: Array, eps: float, taps: Array, gamma: Array, beta: Array,
    w1: Array, b1: Array, w2: Array, b2: Array, scale: Array,
) -> None:  # fmt: skip
    """CausalBlock.forward for one frame [D]; `out` and `past` are written."""
    width, hidden, last = len(x), len(b1), len(past)
    h, wide = np.empty_like(x), np.empty(hidden, x.dtype)
    mean = x.dtype.type(0)
    for d in range(width):
        mixed = x[d] * taps[last, d]
        for i in range(last):
            mixed += past[i, d] * taps[i, d]
        h[d] = mixed
        mean += mixed
    mean /= width
    square = x.dtype.type(0)
    for d in range(width):
        h[d] -= mean
        square += h[d] * h[d]
    steep = 1 / math.sqrt(square / width + eps)
    for d in range(width):
        h[d] = h[d] * steep * gamma[d] + beta[d]
    for j in range(hidden):
        s = x.dtype.type(0)
        for d in range(width):
            s += w1[j, d] * h[d]
        s += b1[j]
        wide[j] = 0.5 * s * (1 + math.erf(s * math.sqrt(0.5)))
    for d in range(width):
        s = x.dtype.type(0)
        for j in range(hidden):
            s += w2[d, j] * wide[j]
        out[d] = x[d] + scale[d] * (s + b2[d])
    for i in range(last - 1):
        past[i] = past[i + 1]
    if last:
        past[last - 1] = x
