"""How rows lie where k frames are denoised together: by shifted input, which is there when a row is made.

The row of output frame f holds input frame f + t_f - k, so the newest row of the chunk at s holds frame s + t_f - 1,
the newest that the clock lets it hear, and no row needs another input later. Where t_f > k, whole blocks of rows that
hold input alone lie in front. With k = 2 (rows of a block side by side; P: learned frames):

    t_f = 0                                  t_f = 3
    block            0      1      2         block            0      1      2      3
    input frame     P P    0 1    2 3        input frame     P 0    1 2    3 4    5 6
    output frame    0 1    2 3    4 5        output frame     -     0 1    2 3    4 5
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.diffusion.kinds import Regime
from accomp.core.types import AttentionPattern


@frozen
class BlockLayout:
    """The arrangement that follows from a clock, for either regime."""

    clock: Clock
    regime: Regime = "block_causal"

    @property
    def front(self) -> int:
        """Blocks of rows without output in front, p."""
        return max(0, -(-(self.clock.t_f - self.clock.k) // self.clock.k))

    @property
    def start(self) -> int:
        """The row of frame 0."""
        return self.front * self.clock.k

    @property
    def input_padding(self) -> int:
        """Learned input frames in front of the first, P."""
        return max(0, self.start + self.clock.k - self.clock.t_f)

    def blocks(self, frames: int) -> int:
        """How many blocks of output a clip of T `frames` holds of which all input and output is there."""
        k, t_f = self.clock.k, self.clock.t_f
        return max(0, min(frames // k, (frames - t_f) // k + 1))

    def inputs(self, x: Tensor, padding: Tensor) -> Tensor:
        """Input frames x [B, T, E] behind the learned `padding` [P, E] -> those of all rows [B, start + n k, E]."""
        rows = self.start + self.blocks(x.shape[1]) * self.clock.k
        return torch.cat([padding.to(x.dtype).expand(len(x), -1, -1), x], dim=1)[:, :rows]

    def outputs(self, values: Tensor) -> Tensor:
        """Of frames, values [B, T, N] -> of all rows [B, start + n k, N]; zeros in front."""
        there = values[:, : self.blocks(values.shape[1]) * self.clock.k]
        return torch.cat([there.new_zeros(len(there), self.start, there.shape[2]), there], dim=1)


@frozen(eq=False)
class Blocks:
    """n blocks of clips that are denoised in training: rows of a clean line, and behind them rows of noisy blocks.

    Attributes:
        chosen: [B, m] int64, which blocks, counted from the first that has output.
        lines: blocks of the clean line, those in front included.
        window: how many blocks back a block sees, itself included; all where that is more.
        forgotten: [B] int64, how many blocks of the clean line are not seen, as if the session had begun after them.
        valid: [B, lines * k] bool, rows of the clean line that may be seen.
    """

    layout: BlockLayout
    chosen: Tensor
    lines: int
    window: int
    forgotten: Tensor
    valid: Tensor

    @property
    def noisy(self) -> Tensor:
        """Rows of the clean line whose place the noisy rows take, block after block: [B, m k]."""
        k = self.layout.clock.k
        first = (self.layout.front + self.chosen) * k
        return (first[..., None] + torch.arange(k, device=first.device)).flatten(1)

    def at(self, values: Tensor) -> Tensor:
        """values [B, lines k, N] of the clean line -> of the noisy rows [B, m k, N]."""
        return values.gather(1, self.noisy[..., None].expand(-1, -1, values.shape[2]))

    def sight(self) -> AttentionPattern:
        """Where all rows lie, and what they see.

        Clean rows see clean ones: in "block_causal" those of their own block and of the window before, in "enc_dec",
        where all chosen blocks are the last, all before that. Noisy rows see the same as the clean ones whose place
        they take, but for their own block, of which they see one another.
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
