"""Streaming layers with look-ahead: outputs are returned as soon as their inputs have arrived.

Nothing is computed twice: a layer keeps the inputs of later outputs. Cost and results equal those of one long call; the
outputs are only delayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["zeros", "reflect"]


class StreamMemory:
    """State of the layers of one stream: tensors by layer and name, rows in the first dimension."""

    def __init__(self, kept: Mapping[tuple[nn.Module, str], Tensor] | None = None):
        self._kept = dict(kept or {})

    def get(self, layer: nn.Module, name: str = "") -> Tensor | None:
        return self._kept.get((layer, name))

    def keep(self, layer: nn.Module, x: Tensor, name: str = "") -> None:
        self._kept[layer, name] = x.clone()

    def rows(self, which: Tensor) -> StreamMemory:
        """Return the state of the rows in `which` (indices)."""
        return StreamMemory({key: tensor[which] for key, tensor in self._kept.items()})


class SlidingConv(nn.Module):
    """A convolution over [B, C, n] with padding on both sides; the total n is a multiple of the stride.

    `conv` is an unpadded Conv1d, or a module with the same attributes kernel_size, stride, dilation and
    out_channels. `padding`: padding mode before the first and, after `final`, after the last input.
    """

    def __init__(self, conv: Any, left: int, right: int, padding: Padding = "zeros"):
        super().__init__()
        self.conv, self.left, self.right, self.padding = conv, left, right, padding
        (kernel,), (self.stride,), (dilation,) = conv.kernel_size, conv.stride, conv.dilation
        self.window = (kernel - 1) * dilation + 1

    @property
    def ahead(self) -> int:
        """Output i needs inputs up to i * stride + ahead."""
        return self.window - 1 - self.left

    def forward(self, x: Tensor, past: StreamMemory, *, final: bool = False) -> Tensor:
        x = self._zeros(x, past, final) if self.padding == "zeros" else self._mirrored(x, past, final)
        n = max(0, (x.shape[-1] - self.window) // self.stride + 1)
        if x.shape[-1]:
            past.keep(self, x[..., n * self.stride :])
        if not n:
            return x.new_zeros(len(x), self.conv.out_channels, 0)
        return self.conv(x[..., : (n - 1) * self.stride + self.window])

    def _zeros(self, x: Tensor, past: StreamMemory, final: bool) -> Tensor:
        before = past.get(self)
        if before is None:
            if not x.shape[-1]:
                return x
            before = x.new_zeros(*x.shape[:-1], self.left)
        return F.pad(torch.cat([before, x], dim=-1), (0, self.right if final else 0))

    def _mirrored(self, x: Tensor, past: StreamMemory, final: bool) -> Tensor:
        """Mirror without repeating the edge; zeros replace missing inputs."""
        before = past.get(self)
        if before is None:
            waiting = past.get(self, "waiting")
            x = x if waiting is None else torch.cat([waiting, x], dim=-1)
            n, needed = x.shape[-1], max(self.left, self.right) + 1
            if n < needed and not final:
                past.keep(self, x, "waiting")
                return x[..., :0]
            if n < needed:
                whole = F.pad(F.pad(x, (0, needed - n)), (self.left, self.right), "reflect")
                return whole[..., : n + self.left + self.right]
            before = x[..., 1 : self.left + 1].flip(-1)
        x = torch.cat([before, x], dim=-1)
        if final and self.right:
            x = torch.cat([x, x[..., -self.right - 1 : -1].flip(-1)], dim=-1)
        return x


class SlidingUpsample(nn.Module):
    """A transposed convolution with kernel 2s and stride s with `left` and `right` output samples trimmed.

    `conv` is unpadded, a ConvTranspose1d or a module with the same attributes. n inputs give (n + 1) * s - left - right
    samples in total.
    """

    def __init__(self, conv: Any, left: int, right: int):
        super().__init__()
        self.conv, self.left, self.right = conv, left, right
        (self.stride,) = conv.stride

    def forward(self, x: Tensor, past: StreamMemory, *, final: bool = False) -> Tensor:
        last = past.get(self)
        if not x.shape[-1] and (last is None or not final):
            return x.new_zeros(len(x), self.conv.out_channels, 0)
        if final:
            x = F.pad(x, (0, 1))
        n = x.shape[-1]
        before = x.new_zeros(*x.shape[:-1], 1) if last is None else last
        past.keep(self, x[..., -1:])
        y = self.conv(torch.cat([before, x], dim=-1))[..., self.stride : (n + 1) * self.stride]
        return y[..., self.left if last is None else 0 : y.shape[-1] - (self.right if final else 0)]


class Beside(nn.Module):
    """x + body(x); the skip input is buffered until the output of the body is ready."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, past: StreamMemory, *, final: bool = False) -> Tensor:
        y = self.body(x, past, final=final)
        waiting = past.get(self)
        x = x if waiting is None else torch.cat([waiting, x], dim=-1)
        n = y.shape[-1]
        past.keep(self, x[..., n:])
        return x[..., :n] + y


class Recurrent(nn.Module):
    """x + LSTM(x) over [B, C, n]: it has heard all that came before."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)

    def forward(self, x: Tensor, past: StreamMemory, *, final: bool = False) -> Tensor:
        if not x.shape[-1]:
            return x
        state = past.get(self)  # [B, 2, layers, C]
        known = None if state is None else tuple(part.contiguous() for part in state.permute(1, 2, 0, 3))
        y, known = self.lstm(x.transpose(1, 2), known)
        past.keep(self, torch.stack(known).permute(2, 0, 1, 3))
        return x + y.transpose(1, 2)


class LayerChain(nn.ModuleList):
    """Layers one after the other over [B, C, n]; those of this file get the past, the others see single samples."""

    def forward(self, x: Tensor, past: StreamMemory, *, final: bool = False) -> Tensor:
        for layer in self:
            remembers = isinstance(layer, (SlidingConv, SlidingUpsample, Beside, Recurrent, LayerChain))
            x = layer(x, past, final=final) if remembers else layer(x)
        return x


def lookahead(layers: Sequence[tuple[int, int]], hop: int) -> int:
    """Samples after a frame's last one that an encoder needs for it.

    `layers` are its convolutions in order, (SlidingConv.ahead, stride) each; those in a Beside count like the others.
    """
    last = 0
    for ahead, stride in reversed(layers):
        last = last * stride + ahead
    return max(0, last - (hop - 1))


def delay(layers: Sequence[tuple[int, int]]) -> int:
    """d such that sample n of a decoder needs frames up to (n + d) // hop.

    `layers` are its convolutions in order: (SlidingConv.ahead, 1), or (SlidingUpsample.left, stride).
    """
    samples, step = 0, 1
    for ahead, stride in reversed(layers):
        samples += step * ahead
        step *= stride
    return samples
