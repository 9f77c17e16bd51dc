"""Causal layers with input history: a stream in blocks computes the same result as one long call."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class History:
    """The last inputs of every causal layer of one stream; initially zeros, like causal padding.

    One History belongs to one stream. Layers are its keys and have no state.
    """

    def __init__(self) -> None:
        self._past: dict[object, Tensor] = {}

    def extend(self, layer: object, x: Tensor, length: int, dim: int = -1) -> Tensor:
        """x with n along `dim` -> length + n: the last `length` inputs of the layer, followed by the new ones."""
        n = x.shape[dim]
        past = self._past.get(layer)
        if past is None:
            shape = list(x.shape)
            shape[dim] = length
            past = x.new_zeros(shape)
        whole = torch.cat([past, x], dim=dim)
        kept = whole.narrow(dim, n, length)
        self._past[layer] = kept if n <= length else kept.clone()  # a view would keep all of `whole` in memory
        return whole

    def of(self, layer: object, begin: Callable[[], Tensor]) -> Tensor:
        """Return the state of a layer, modifiable in place; `begin` creates it on first use."""
        if layer not in self._past:
            self._past[layer] = begin()
        return self._past[layer]

    def items(self) -> ItemsView[object, Tensor]:
        """Return the layers with state, and their state."""
        return self._past.items()

    def reset(self, rows: Tensor) -> None:
        """Zero the history of the rows where the bool mask [B] is true."""
        for layer, past in self._past.items():
            mask = rows.to(past.device).view(-1, *[1] * (past.dim() - 1))
            self._past[layer] = past.masked_fill(mask, 0.0)


class FixedHistory(History):
    """A History of given tensors at fixed addresses, as compiled code requires."""

    def __init__(self, past: Mapping[Any, Tensor]):
        super().__init__()
        self._past.update(past)

    def of(self, layer: object, begin: Callable[[], Tensor] | None = None) -> Tensor:
        """Return the state of a layer, modifiable in place."""
        return self._past[layer]

    def extend(self, layer: object, x: Tensor, length: int, dim: int = -1) -> Tensor:
        past = self._past[layer]
        whole = torch.cat([past, x], dim=dim)
        past.copy_(whole.narrow(dim, x.shape[dim], length))
        return whole

    def reset(self, rows: Tensor) -> None:
        for past in self._past.values():
            past.masked_fill_(rows.to(past.device).view(-1, *[1] * (past.dim() - 1)), 0.0)


class CausalConv(nn.Module):
    """A convolution over [B, C, n] padded on the left only: output i sees inputs up to i * stride.

    `conv` is an unpadded Conv1d. With stride s and kernel 2s the padding is 2s - 1. n must be a multiple of the stride.
    """

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        self.conv = conv
        (kernel,), (dilation,) = conv.kernel_size, conv.dilation
        self.padding = (kernel - 1) * dilation

    def forward(self, x: Tensor, history: History) -> Tensor:
        if not x.shape[-1]:
            return x.new_zeros(len(x), self.conv.out_channels, 0)
        if self.padding:
            x = history.extend(self, x, self.padding)
        return self.conv(x)


class CausalUpsample(nn.Module):
    """An unpadded transposed convolution with kernel 2s and stride s, s output samples per input.

    Output [i * s, (i + 1) * s) sums inputs i and i - 1; `final` adds the s samples of the tail of the last input.
    """

    def __init__(self, conv: nn.ConvTranspose1d):
        super().__init__()
        self.conv = conv
        (self.stride,) = conv.stride

    def forward(self, x: Tensor, history: History, *, final: bool = False) -> Tensor:
        if final:
            x = F.pad(x, (0, 1))
        n = x.shape[-1]
        x = history.extend(self, x, 1)
        return self.conv(x)[..., self.stride : (n + 1) * self.stride]


def depthwise(frames: Tensor, taps: Tensor) -> Tensor:
    """frames [B, n + kernel - 1, D], taps [kernel, D] -> [B, n, D]: depthwise convolution.

    Shifted products are fast for many frames, also in float64; for one frame two operations are faster.
    """
    n = frames.shape[1] - len(taps) + 1
    if n == 1:
        return (frames * taps).sum(1, keepdim=True)
    mixed = frames[:, :n] * taps[0]
    for i in range(1, len(taps)):
        mixed = torch.addcmul(mixed, frames[:, i : i + n], taps[i])
    return mixed
