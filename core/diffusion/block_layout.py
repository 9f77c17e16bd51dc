"""Layout of rows where k frames are denoised together: input shifted so that it is complete when a row is computed.

The row of output frame f holds input frame f + t_f - k, so the newest row of the chunk at s holds frame s + t_f - 1,
the newest visible by the clock, and no row needs another input later. Where t_f > k, whole blocks of rows with input
alone come first. With k = 2 (rows of a block side by side; P: learned frames):

    t_f = 0                                  t_f = 3
    block            0      1      2         block            0      1      2      3
    input frame     P P    0 1    2 3        input frame     P 0    1 2    3 4    5 6
    output frame    0 1    2 3    4 5        output frame     -     0 1    2 3    4 5
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from attrs import frozen
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.diffusion.kinds import Regime
from accomp.core.types import AttentionPattern


@frozen
class BlockLayout:
    """The block layout of a clock, for either regime."""

    clock: Clock
    regime: Regime = "block_causal"

    @property
    def front(self) -> int:
        """p, the number of leading blocks of rows without output."""
        return max(0, -(-(self.clock.t_f - self.clock.k) // self.clock.k))

    @property
    def start(self) -> int:
        """The row of frame 0."""
        return self.front * self.clock.k

    @property
    def input_padding(self) -> int:
        """P, the number of learned input frames before the first."""
        return max(0, self.start + self.clock.k - self.clock.t_f)

    def blocks(self, frames: int) -> int:
        """Number of output blocks in a clip of T `frames` whose input and output are complete."""
        k, t_f = self.clock.k, self.clock.t_f
        return max(0, min(frames // k, (frames - t_f) // k + 1))

    def inputs(self, x: Tensor, padding: Tensor) -> Tensor:
        """Prepend the learned `padding` [P, E] to input frames x [B, T, E] -> those of all rows [B, start + n k, E]."""
        rows = self.start + self.blocks(x.shape[1]) * self.clock.k
        return torch.cat([padding.to(x.dtype).expand(len(x), -1, -1), x], dim=1)[:, :rows]

    def outputs(self, values: Tensor) -> Tensor:
        """Lay out values of frames [B, T, N] on all rows [B, start + n k, N]; zeros in front."""
        there = values[:, : self.blocks(values.shape[1]) * self.clock.k]
        return torch.cat([there.new_zeros(len(there), self.start, there.shape[2]), there], dim=1)


class Blocks(NamedTuple):
    """n blocks of clips that are denoised in training: clean rows, and behind them the rows of noisy blocks.

    It is made inside the compiled loss, where torch cannot make a frozen attrs object.

    Attributes:
        chosen: [B, m] int64, numbers of the blocks, counted from the first with output.
        lines: blocks of clean rows, those in front included.
        window: number of blocks that a block attends to, itself and those before it; all where that is more.
        forgotten: [B] int64, number of oldest clean blocks that are masked, as if the session had begun after them.
        valid: [B, lines * k] bool, clean rows that may be attended to.
    """

    layout: BlockLayout
    chosen: Tensor
    lines: int
    window: int
    forgotten: Tensor
    valid: Tensor

    @property
    def noisy(self) -> Tensor:
        """Clean rows whose positions the noisy rows take, block after block: [B, m k]."""
        k = self.layout.clock.k
        first = (self.layout.front + self.chosen) * k
        return (first[..., None] + torch.arange(k, device=first.device)).flatten(1)

    def at(self, values: Tensor) -> Tensor:
        """Pick values [B, lines k, N] of the clean rows for the noisy rows [B, m k, N]."""
        return values.gather(1, self.noisy[..., None].expand(-1, -1, values.shape[2]))

    def sight(self) -> AttentionPattern:
        """Positions and visibility of all rows.

        Clean rows attend to clean ones: in "block_causal" those of their own block and of the window before, in
        "enc_dec", where all chosen blocks are the last, all before that. Noisy rows attend to the same as the clean
        ones whose positions they take, except that of their own block they attend to the noisy rows.
        """
        k, device = self.layout.clock.k, self.chosen.device
        line = torch.arange(self.lines * k, device=device)
        block = torch.cat([(line // k).expand(len(self.chosen), -1), self.noisy // k], dim=1)
        own = torch.cat(
            [torch.full_like(line, -1), torch.arange(self.chosen.shape[1], device=device).repeat_interleave(k)]
        )
        clean, mine = own < 0, own[:, None] == own
        row, column = block[:, :, None], block[:, None]
        seen = clean & (column < row) & (column > row - self.window)
        if self.layout.regime == "enc_dec":
            target = self.layout.front + self.chosen[:, :1, None]
            seen |= clean[:, None] & clean & (column < target) & (column > target - self.window)
        seen &= column >= self.forgotten[:, None, None]
        seen |= mine & (column == row)
        ok = torch.cat([self.valid, self.valid.gather(1, self.noisy)], dim=1)
        seen = (seen & ok[:, None]) | torch.eye(len(own), dtype=torch.bool, device=device)
        return AttentionPattern(torch.cat([line.expand(len(self.chosen), -1), self.noisy], dim=1), seen)
