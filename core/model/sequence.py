"""The delay pattern: input and output tokens in one sequence, with start, delay, padding and the shift by t_f.

A row is one position of the sequence; row p belongs to output step s = p - output_padding. It fuses the newest input
frame visible to step s with the output of the previous step, and predicts step s: under the delay pattern, frame s - q
of level q. With K = 3, and A, B the embeddings of CONDITION and PADDING:

    t_f = 0                                     t_f = 3
    row                   0   1   2   3         row                   0   1   2   3   4   5
    input frame           -1  0   1   2         input frame           0   1   2   3   4   5
    level 0 holds         A   y0  y1  y2        level 0 holds         B   B   A   y0  y1  y2
    level 1 holds         A   A   y0  y1        level 1 holds         B   B   A   A   y0  y1
    level 2 holds         A   A   A   y0        level 2 holds         B   B   A   A   A   y0

Input frame -1 is learned. Objectives build the rows of a whole clip and sessions one row at a time, with the same code.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.model.tokens import CONDITION, PADDING


@frozen
class DelayPattern:
    """The delay pattern of a clock and the number of levels K."""

    clock: Clock
    codebooks: int

    @property
    def start(self) -> int:
        """Row of step 0, the first that predicts a frame; it holds CONDITION alone."""
        return self.clock.output_padding

    def rows(self, frames: int) -> int:
        """S, the number of rows of a clip of T `frames`; each needs its input frame and the output before it."""
        return frames + min(1, self.clock.input_padding)

    def steps(self, frames: int) -> int:
        """Number of those rows that are output steps."""
        return self.rows(frames) - self.start

    def inputs(self, x: Tensor, padding: Tensor) -> Tensor:
        """Prepend the learned `padding` [P, E], P = clock.input_padding, to input frames x [B, T, E] -> [B, S, E]."""
        rows = self.rows(x.shape[1])
        return torch.cat([padding.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)[:, :rows]

    def timeline_rows(self, values: Tensor) -> Tensor:
        """Shift a timeline's values per frame [B, T, N] to rows [B, S, N]: the row of step s holds those of frame s.

        Zeros, as of a withheld timeline, before the first step and beyond the clip.
        """
        return self.timeline_at(values, torch.arange(-self.start, self.steps(values.shape[1]), device=values.device))

    def timeline_at(self, values: Tensor, steps: Tensor) -> Tensor:
        """Pick values [B, T, N] at steps [S] or [B, S] -> [B, S, N]."""
        steps = steps.expand(len(values), -1)
        there = (steps >= 0) & (steps < values.shape[1])
        picked = values.gather(1, steps.clamp(0, values.shape[1] - 1)[..., None].expand(-1, -1, values.shape[2]))
        return picked.masked_fill(~there[..., None], 0.0)

    def tokens_in(self, step: Tensor, before: Tensor) -> Tensor:
        """Tokens at the input of rows: PADDING, then `before`, the previous step's output (CONDITION where it has no
        frame).

        step (broadcastable) int64 and before [B, K, S] int64 -> [B, K, S]: codes, CONDITION, PADDING.
        """
        return torch.where(step < 0, PADDING, before)

    def frame(self, step: Tensor) -> Tensor:
        """Frame of each level that a step outputs: step [...] -> [..., K], s - q; negative where there is none."""
        return step[..., None] - torch.arange(self.codebooks, device=step.device)

    def inputs_of(self, y: Tensor) -> Tensor:
        """Delay target codes y [B, K, T] into the tokens at the input of all rows [B, K, S]."""
        steps = torch.arange(-self.start, self.steps(y.shape[2]), device=y.device)
        before = torch.arange(-self.start - 1, self.steps(y.shape[2]) - 1, device=y.device)
        return self.tokens_in(steps, self.emitted(y, before))

    def targets_of(self, y: Tensor, ahead: int = 0) -> Tensor:
        """Delay target codes y [B, K, T] into the targets of all rows [B, K, S]; negative where a row has no target.

        ahead: the row of step s predicts step s + ahead; rows before the first step have no target.
        """
        steps = torch.arange(-self.start, self.steps(y.shape[2]), device=y.device)
        return self.emitted(y, steps + ahead).masked_fill(steps < 0, CONDITION)

    def emitted(self, y: Tensor, steps: Tensor) -> Tensor:
        """Output of steps [S] or [B, S] of a clip: y[:, q, s - q] -> [B, K, S].

        CONDITION before the first frame of level q, PADDING beyond the clip's end.
        """
        frame = self.frame(steps).mT
        picked = y.gather(2, frame.clamp(0, y.shape[2] - 1).expand(y.shape[0], -1, -1))
        return torch.where(frame < 0, CONDITION, torch.where(frame < y.shape[2], picked, PADDING))

    def undelay(self, steps: Tensor) -> Tensor:
        """Undo the delay: outputs of n consecutive steps [B, K, n] -> the frames complete by then [B, K, n - K + 1]."""
        frames = steps.shape[2] - self.codebooks + 1
        return torch.stack([steps[:, q, q : q + frames] for q in range(self.codebooks)], dim=1)
