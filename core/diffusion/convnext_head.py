"""The discriminator's head, hidden rows to scores: a small one-dimensional ConvNeXt (arXiv 2201.03545)."""

from __future__ import annotations

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


@frozen
class Stage:
    """`blocks` blocks, then a convolution to `multiplier` times the first channels, and every `stride`-th frame."""

    multiplier: int
    stride: int
    blocks: int


STAGES = (Stage(1, 1, 2), Stage(2, 2, 2), Stage(4, 2, 2))
"""The stages of the published system: a score every 4 frames."""


class ConvNextHead(nn.Module):
    """[B, D, T] -> scores [B, 1, T / strides]: a 7-tap convolution, stages of blocks, a 3-tap convolution.

    All convolutions have weight norm. A stage's last one has 2 `stride` taps.
    """

    def __init__(self, width: int, channels: int = 128, stages: tuple[Stage, ...] = STAGES):
        """width: D. channels: of the first stage's blocks."""
        super().__init__()
        sizes = [channels * stage.multiplier for stage in stages]
        self.proj_in = weight_norm(nn.Conv1d(width, channels, 7, padding=3))
        self.layers = nn.Sequential(
            *map(_Stage, stages, [channels, *sizes], sizes),
            weight_norm(nn.Conv1d(sizes[-1], 1, 3, padding=1)),
        )

    def forward(self, h: Tensor) -> Tensor:
        """h [B, D, T], hidden rows -> [B, 1, T / strides]."""
        return self.layers(self.proj_in(h))


class _Stage(nn.Module):
    def __init__(self, stage: Stage, size: int, after: int):
        super().__init__()
        self.layers = nn.Sequential(*(_Block(size) for _ in range(stage.blocks)))
        taps, padding = 2 * stage.stride, -(-stage.stride // 2)
        self.downsample = weight_norm(nn.Conv1d(size, after, taps, stage.stride, padding))

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(self.layers(x))


class _Block(nn.Module):
    """x + down(gelu(up(depthwise(x)))); `down` begins at zero."""

    def __init__(self, size: int):
        super().__init__()
        self.dw_conv = weight_norm(nn.Conv1d(size, size, 7, padding=3, groups=size))
        self.proj_up = weight_norm(nn.Conv1d(size, 4 * size, 1))
        down = nn.Conv1d(4 * size, size, 1)
        nn.init.zeros_(down.bias)  # type: ignore[arg-type]
        self.proj_down = weight_norm(down)
        nn.init.zeros_(self.proj_down.parametrizations.weight.original0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.proj_down(F.gelu(self.proj_up(self.dw_conv(x))))
