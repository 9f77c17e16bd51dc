"""How input and output lie side by side in one sequence: start, delay, padding, and the shift by t_f.

A row is one position of the sequence; row p belongs to output step s = p - output_padding. It fuses the newest input
frame that step s may see with what the step before put out, and predicts step s: under the delay pattern, frame s - q
of level q. With K = 3, and A, B the labels' embedding and PAD:

    t_f = 0                                     t_f = 3
    row                   0   1   2   3         row                   0   1   2   3   4   5
    input frame           -1  0   1   2         input frame           0   1   2   3   4   5
    level 0 holds         A   y0  y1  y2        level 0 holds         B   B   A   y0  y1  y2
    level 1 holds         A   A   y0  y1        level 1 holds         B   B   A   A   y0  y1
    level 2 holds         A   A   A   y0        level 2 holds         B   B   A   A   A   y0

Input frame -1 is a learned one. Objectives lay out a whole clip, sessions one row after the other, with the same lines.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from accomp.core.clock import Clock

LABELS = -1
"""What a level holds from the start until its first code: the labels (instrument, ...) of the item."""

PADDING = -2
"""What every level holds before the start, and after the end; there is no code that early or late."""


@frozen
class DelayPattern:
    """The arrangement that follows from a clock and the number of levels K."""

    clock: Clock
    codebooks: int

    @property
    def start(self) -> int:
        """The row of step 0, the first that predicts something; it holds nothing but the labels."""
        return self.clock.output_padding

    def rows(self, frames: int) -> int:
        """S: how many rows a clip of T `frames` fills; each needs its input frame and the output before it."""
        return frames + min(1, self.clock.input_padding)

    def steps(self, frames: int) -> int:
        """How many of those rows are steps that put something out."""
        return self.rows(frames) - self.start

    def inputs(self, x: Tensor, padding: Tensor) -> Tensor:
        """Input frames x [B, T, E] behind the learned `padding` [P, E], P = clock.input_padding -> [B, S, E]."""
        rows = self.rows(x.shape[1])
        return torch.cat([padding.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)[:, :rows]

    def timeline_rows(self, values: Tensor) -> Tensor:
        """What is told of frames, values [B, T, N] -> of the rows [B, S, N]: row of step s has that of frame s.

        Zeros, nothing told, before the first step and beyond the clip.
        """
        return self.timeline_at(values, torch.arange(-self.start, self.steps(values.shape[1]), device=values.device))

    def timeline_at(self, values: Tensor, steps: Tensor) -> Tensor:
        """values [B, T, N] -> of steps [S] or [B, S] [B, S, N]."""
        steps = steps.expand(len(values), -1)
        there = (steps >= 0) & (steps < values.shape[1])
        picked = values.gather(1, steps.clamp(0, values.shape[1] - 1)[..., None].expand(-1, -1, values.shape[2]))
        return picked.masked_fill(~there[..., None], 0.0)

    def tokens_in(self, step: Tensor, before: Tensor) -> Tensor:
        """What the rows hold: `before`, the output of the step before (LABELS where that is no frame), behind PADDING.

        step (broadcastable) int64 and before [B, K, S] int64 -> [B, K, S]: codes, LABELS, PADDING.
        """
        return torch.where(step < 0, PADDING, before)

    def frame(self, step: Tensor) -> Tensor:
        """Which frame of each level a step puts out: step [...] -> [..., K], s - q; negative where there is none."""
        return step[..., None] - torch.arange(self.codebooks, device=step.device)

    def inputs_of(self, y: Tensor) -> Tensor:
        """Target codes y [B, K, T] -> what the rows hold [B, K, S]."""
        steps = torch.arange(-self.start, self.steps(y.shape[2]), device=y.device)
        before = torch.arange(-self.start - 1, self.steps(y.shape[2]) - 1, device=y.device)
        return self.tokens_in(steps, self.emitted(y, before))

    def targets_of(self, y: Tensor, ahead: int = 0) -> Tensor:
        """Target codes y [B, K, T] -> what the rows should predict [B, K, S]; negative where nothing is to be.

        ahead: row of step s predicts step s + ahead instead; a row before the first step still predicts nothing.
        """
        steps = torch.arange(-self.start, self.steps(y.shape[2]), device=y.device)
        return self.emitted(y, steps + ahead).masked_fill(steps < 0, LABELS)

    def emitted(self, y: Tensor, steps: Tensor) -> Tensor:
        """What steps [S] or [B, S] of a clip put out: y[:, q, s - q] -> [B, K, S].

        LABELS where it is too early for a frame of level q, PADDING beyond the clip's end.
        """
        frame = self.frame(steps).mT
        picked = y.gather(2, frame.clamp(0, y.shape[2] - 1).expand(y.shape[0], -1, -1))
        return torch.where(frame < 0, LABELS, torch.where(frame < y.shape[2], picked, PADDING))

    def undelay(self, steps: Tensor) -> Tensor:
        """Undo the delay: what n steps in a row put out [B, K, n] -> the frames complete by then [B, K, n - K + 1]."""
        frames = steps.shape[2] - self.codebooks + 1
        return torch.stack([steps[:, q, q : q + frames] for q in range(self.codebooks)], dim=1)
