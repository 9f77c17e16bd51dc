"""COCOLA's network (arXiv 2404.16969), with the parameter names of its public checkpoint.

The encoder is EfficientNet-B0 (arXiv 1905.11946) as in the package efficientnet_pytorch: batch norm with epsilon 1e-3,
and "same" padding fixed for images of 224 x 224, whatever the input size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMBEDDING = 512
_EPSILON = 1e-3
_STAGES = (  # blocks, kernel, stride of the first block, expansion, channels in, channels out
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_HEAD = 1280


class CocolaNetwork(nn.Module):
    """score(a, b) = e(a)^T W e(b), one vector [512] for a whole window. W is not symmetric: a is the context."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Encoder()
        self.layer_norm = nn.LayerNorm(EMBEDDING)
        self.similarity = _Similarity()

    def embed(self, features: Tensor) -> Tensor:
        """features [B, 2, MELS, T] (dB) -> [B, 512] in (-1, 1)."""
        return torch.tanh(self.layer_norm(self.encoder(features)))

    def pair(self, context: Tensor, stem: Tensor) -> Tensor:
        """context, stem [B, 512] (from `embed`) -> [B], the score of each with its own."""
        return ((context @ self.similarity.w) * stem).sum(-1)


class _Similarity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.eye(EMBEDDING))


class _Encoder(nn.Module):
    """features [B, 2, H, W] -> [B, 512]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"model": nn.Sequential(EfficientNetB0(2))})
        self.dropout = nn.Dropout(0.1)
        self.projection = nn.Linear(_HEAD, EMBEDDING)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.dropout(self.encoder["model"](features).mean((2, 3))))
        return projected


class EfficientNetB0(nn.Module):
    """image [B, channels, H, W] -> [B, 1280, about H / 32, about W / 32]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._conv_stem = _conv(channels, 32, 3, 2)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList(
            _Block(kernel, stride if first else 1, expansion, inward if first else outward, outward)
            for blocks, kernel, stride, expansion, inward, outward in _STAGES
            for first in [True] + [False] * (blocks - 1)
        )
        self._conv_head = _conv(_STAGES[-1][-1], _HEAD, 1)
        self._bn1 = _norm(_HEAD)

    def forward(self, picture: Tensor) -> Tensor:
        h = nn.functional.silu(self._bn0(self._conv_stem(picture)))
        for block in self._blocks:
            h = block(h)
        return nn.functional.silu(self._bn1(self._conv_head(h)))


class _Block(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation, projection; residual where the shapes agree."""

    def __init__(self, kernel: int, stride: int, expansion: int, inward: int, outward: int):
        super().__init__()
        wide = inward * expansion
        self._added = stride == 1 and inward == outward
        self._expanded = expansion > 1
        if self._expanded:
            self._expand_conv = _conv(inward, wide, 1)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _conv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._se_reduce = nn.Conv2d(wide, max(1, inward // 4), 1)
        self._se_expand = nn.Conv2d(max(1, inward // 4), wide, 1)
        self._project_conv = _conv(wide, outward, 1)
        self._bn2 = _norm(outward)

    def forward(self, h: Tensor) -> Tensor:
        silu, before = nn.functional.silu, h
        if self._expanded:
            h = silu(self._bn0(self._expand_conv(h)))
        h = silu(self._bn1(self._depthwise_conv(h)))
        h = h * torch.sigmoid(self._se_expand(silu(self._se_reduce(h.mean((2, 3), keepdim=True)))))
        h = self._bn2(self._project_conv(h))
        return h + before if self._added else h


class _SameConv(nn.Conv2d):
    """Convolution with the "same" padding of a 224 x 224 image for any input size."""

    def forward(self, picture: Tensor) -> Tensor:
        missing = self.kernel_size[0] - self.stride[0]  # 224 halves evenly down to 7, so it is equal in all layers
        left, right = missing // 2, missing - missing // 2
        if missing:
            picture = nn.functional.pad(picture, (left, right, left, right))
        return super().forward(picture)


def _conv(inward: int, outward: int, kernel: int, stride: int = 1, groups: int = 1) -> _SameConv:
    return _SameConv(inward, outward, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON, momentum=0.01)
