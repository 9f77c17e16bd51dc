"""Chunks of several steps in training: a clip and some of its chunks in one sequence, with the visibility of a session.

The rows of the clip come first, as in sequence.py. For each chunk follow rows for its steps after the first: outputs
alone, at the positions of the rows they replace. They attend to the clip's rows up to that of the chunk's first step
and to the preceding rows of their own chunk. With t_f = 0, k = 3, one level, and the chunks that start at 0 and 3:

    row             0   1   2   3   4   5   6   |   7   8  |   9  10
    position        0   1   2   3   4   5   6   |   1   2  |   4   5
    input frame    -1   0   1   2   3   4   5   |          |
    level 0 holds   A  y0  y1  y2  y3  y4  y5   |  y0  y1  |  y3  y4
    attends to      0 0-1 0-2 0-3 0-4 0-5 0-6   | 0,7 0,7-8| 0-3,9 0-3,9-10
    predicts       y0          y3               |  y1  y2  |  y4  y5
"""

from __future__ import annotations

import torch
from attrs import field, frozen
from torch import Tensor

from accomp.core.model.sequence import DelayPattern
from accomp.core.types import AttentionPattern


def chunk_starts(layout: DelayPattern, frames: int) -> range:
    """Steps 0, k, 2k, ... at which a chunk fits in a clip of T `frames`.

    Its first step has its input, and every step has the output before it and a target.
    """
    k = layout.clock.k
    steps = frames + min(1, layout.codebooks - 1)
    return range(0, min(layout.steps(frames), steps - k + 1), k)


def draw_starts(starts: range, batch: int, count: int | None, rng: torch.Generator) -> Tensor:
    """Draw `count` starts without replacement for each of B items (all if `count` is None or larger): [B, n] int64."""
    every = torch.tensor(starts, device=rng.device)
    if count is None or count >= len(starts):
        return every.expand(batch, -1)
    order = torch.rand(batch, len(starts), generator=rng, device=rng.device).argsort(dim=1)
    return every[order[:, :count]]


@frozen(eq=False)
class Chunks:
    """n chunks of each of B clips of T frames.

    All numbers of rows are computed here, once, so that compiled code reads them: in torch 2.11 an index that it
    computes itself, out of `arange` and `cat`, stops its compiler on a GPU.

    Attributes:
        starts: [B, n] int64, the step at which each chunk starts.
        steps: [B, S + A] int64, the step of every row, of the clip and without input; below 0 before the first.
        newest: [B, S + A] int64, the clip's last row that each row attends to.
        chunk: [S + A] int64, the chunk of a row without input; -1 for the clip's.
        targets: [B, n k] int64, the chunks' steps, in order.
        predicting: [B, n k] int64, the row that predicts each of them.
    """

    layout: DelayPattern
    frames: int
    starts: Tensor
    steps: Tensor = field(init=False)
    newest: Tensor = field(init=False)
    chunk: Tensor = field(init=False)
    targets: Tensor = field(init=False)
    predicting: Tensor = field(init=False)

    @steps.default
    def _steps(self) -> Tensor:
        return torch.cat([self._clip - self.layout.start, self._within(range(1, self.layout.clock.k))], dim=1)

    @newest.default
    def _newest(self) -> Tensor:
        first = self.layout.start + self.starts
        return torch.cat([self._clip, first.repeat_interleave(self.layout.clock.k - 1, dim=1)], dim=1)

    @chunk.default
    def _chunk(self) -> Tensor:
        n, device = self.starts.shape[1], self.starts.device
        own = torch.arange(n, device=device).repeat_interleave(self.layout.clock.k - 1)
        return torch.cat([torch.full_like(self._clip[0], -1), own])

    @targets.default
    def _targets(self) -> Tensor:
        return self._within(range(self.layout.clock.k))

    @predicting.default
    def _predicting(self) -> Tensor:
        (batch, n), k, rows = self.starts.shape, self.layout.clock.k, self.layout.rows(self.frames)
        first = (self.layout.start + self.starts)[..., None]
        inputless = torch.arange(n * (k - 1), device=self.starts.device).view(n, k - 1) + rows
        return torch.cat([first, inputless.expand(batch, -1, -1)], dim=2).flatten(1)

    @property
    def _clip(self) -> Tensor:
        """Numbers of the clip's rows [B, S]."""
        return torch.arange(self.layout.rows(self.frames), device=self.starts.device).expand(len(self.starts), -1)

    def _within(self, span: range) -> Tensor:
        """Steps of every chunk, m of them, counted from its start: [B, n m]."""
        within = torch.arange(span.start, span.stop, device=self.starts.device)
        return (self.starts[..., None] + within).flatten(1)

    def tokens_in(self, y: Tensor) -> Tensor:
        """Target codes y [B, K, T] -> tokens at the input of all rows, of the clip and without input [B, K, S + A]."""
        return self.layout.tokens_in(self.steps[:, None], self.layout.emitted(y, self.steps - 1))

    def timeline_rows(self, values: Tensor) -> Tensor:
        """Pick a timeline's values per frame [B, T, N] for all rows [B, S + A, N]."""
        return self.layout.timeline_at(values, self.steps)

    @property
    def ahead(self) -> Tensor:
        """By how many frames every row is further on than the clip's last row that it attends to [B, S + A]."""
        return self.steps + self.layout.start - self.newest

    def of_newest(self, values: Tensor) -> Tensor:
        """Pick values of the clip's rows [B, S, N] for all rows, of the last that each attends to [B, S + A, N]."""
        return values.gather(1, self.newest[..., None].expand(-1, -1, values.shape[2]))

    def targets_of(self, y: Tensor, ahead: int = 0) -> Tensor:
        """Target codes y [B, K, T] -> targets of the chunks' steps [B, K, n k]; negative where a step has no target.

        ahead: each step's target is the output of the step `ahead` steps later, beyond the chunk's end too.
        """
        return self.layout.emitted(y, self.targets + ahead)

    def predicting_rows(self, h: Tensor) -> Tensor:
        """Select from h [B, S + A, D] of all rows those that predict the chunks' steps, in order [B, n k, D]."""
        return h.gather(1, self.predicting[..., None].expand(-1, -1, h.shape[2]))

    def sight(self) -> AttentionPattern:
        """Positions and visibility of the S + A rows."""
        position, newest, chunk = self.steps + self.layout.start, self.newest, self.chunk
        rows = self.layout.rows(self.frames)

        def rule(b: Tensor, i: Tensor, j: Tensor) -> Tensor:
            own = (chunk[i] == chunk[j]) & (position[b, i] >= position[b, j])
            return torch.where(j < rows, newest[b, i] >= j, own)

        return AttentionPattern(position, rule)
