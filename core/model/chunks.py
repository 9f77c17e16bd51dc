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
from attrs import frozen
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

    Attributes:
        starts: [B, n] int64, the step at which each chunk starts.
    """

    layout: DelayPattern
    frames: int
    starts: Tensor

    @property
    def inputless(self) -> Tensor:
        """Steps of the rows without input, A = n (k - 1), chunk by chunk: [B, A]."""
        return self._steps(range(1, self.layout.clock.k))

    def tokens_in(self, y: Tensor) -> Tensor:
        """Target codes y [B, K, T] -> tokens at the input of all rows, of the clip and without input [B, K, S + A]."""
        before = self._steps(range(self.layout.clock.k - 1))
        return torch.cat([self.layout.inputs_of(y), self.layout.emitted(y, before)], dim=2)

    def timeline_rows(self, values: Tensor) -> Tensor:
        """Pick a timeline's values per frame [B, T, N] for all rows [B, S + A, N]."""
        return torch.cat([self.layout.timeline_rows(values), self.layout.timeline_at(values, self.inputless)], dim=1)

    def targets_of(self, y: Tensor, ahead: int = 0) -> Tensor:
        """Target codes y [B, K, T] -> targets of the chunks' steps [B, K, n k]; negative where a step has no target.

        ahead: each step's target is the output of the step `ahead` steps later, beyond the chunk's end too.
        """
        return self.layout.emitted(y, self._steps(range(ahead, self.layout.clock.k + ahead)))

    def predicting_rows(self, h: Tensor) -> Tensor:
        """Select from h [B, S + A, D] of all rows those that predict the chunks' steps, in order [B, n k, D]."""
        clip, inputless = h.tensor_split([self.layout.rows(self.frames)], dim=1)
        firsts = clip.gather(1, (self.layout.start + self.starts)[..., None].expand(-1, -1, h.shape[2]))
        inputless = inputless.unflatten(1, (self.starts.shape[1], self.layout.clock.k - 1))
        return torch.cat([firsts[:, :, None], inputless], dim=2).flatten(1, 2)

    def sight(self) -> AttentionPattern:
        """Positions and visibility of the S + A rows."""
        n, k = self.starts.shape[1], self.layout.clock.k
        device = self.starts.device
        clip = torch.arange(self.layout.rows(self.frames), device=device)
        clip_rows = clip.expand(len(self.starts), -1)
        position = torch.cat([clip_rows, self.layout.start + self.inputless], dim=1)
        newest = torch.cat([clip_rows, self.layout.start + self.starts.repeat_interleave(k - 1, dim=1)], dim=1)
        chunk = torch.cat([torch.full_like(clip, -1), torch.arange(n, device=device).repeat_interleave(k - 1)])
        own = (chunk[:, None] == chunk) & (position[..., None] >= position[:, None])
        inputs = newest[..., None] >= clip
        return AttentionPattern(position, torch.cat([inputs, own[..., len(clip) :]], dim=2))

    def _steps(self, span: range) -> Tensor:
        """Steps of every chunk, m of them, counted from its start: [B, n m]."""
        within = torch.arange(span.start, span.stop, device=self.starts.device)
        return (self.starts[..., None] + within).flatten(1)
