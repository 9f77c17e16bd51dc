"""Decoding with the whole input in front: [x ; y] in time, one causal mask over all (arXiv 2510.22105, section 4).

A row for each input frame, without output, then the rows of the outputs, without input: the first holds the labels, and
under the delay pattern row T + s predicts frame s - q of level q. With T = 3, K = 2, A the labels:

    position         0   1   2 |  3   4   5   6
    input frame      0   1   2 |
    level 0 holds              |  A  y0  y1  y2
    level 1 holds              |  A   A  y0  y1
    level 0 predicts           | y0  y1  y2
    level 1 predicts           |     y0  y1  y2

There are T + K - 1 rows of outputs, so that every level of every frame is predicted: no row waits for input.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from attrs import field, frozen
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.interfaces import CausalSampler
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.guidance import Guidance
from accomp.core.model.model import Model
from accomp.core.model.sequence import DelayPattern
from accomp.core.types import AttentionPattern

ABSORBED_AT_ONCE = 128
"""Rows absorbed in one call, at most: a bound on the memory for attention scores."""


@frozen
class Prepended:
    """The rows of the outputs, for K `codebooks`."""

    codebooks: int
    _layout: DelayPattern = field(init=False, repr=False)  # made once: torch.compile cannot trace its constructor

    @_layout.default
    def _of_outputs(self) -> DelayPattern:
        return DelayPattern(Clock(), self.codebooks)

    def steps(self, frames: int) -> int:
        """Number of rows that the outputs of T frames take."""
        return frames + self.codebooks - 1

    def tokens_in(self, y: Tensor, steps: Tensor | None = None) -> Tensor:
        """Codes y [B, K, T] -> tokens at the input of the rows of these steps [S], of all if None [B, K, S]."""
        return self._layout.emitted(y, (self._every(y) if steps is None else steps) - 1)

    def timeline_rows(self, values: Tensor, steps: Tensor | None = None) -> Tensor:
        """Pick a timeline's values per frame [B, T, N] at the rows of these steps, of all if None [B, S, N]."""
        every = torch.arange(self.steps(values.shape[1]), device=values.device)
        return self._layout.timeline_at(values, every if steps is None else steps)

    def targets_of(self, y: Tensor) -> Tensor:
        """Codes y [B, K, T] -> targets of the rows [B, K, T + K - 1]; negative where a row has no target."""
        return self._layout.emitted(y, self._every(y))

    def sight(self, valid: Tensor) -> AttentionPattern:
        """Positions and visibility of the rows of clips whose frames are `valid` [B, T].

        No other row attends to input frames that are not valid, and the outputs follow the last valid one: a clip that
        is padded at its end is laid out as it would be alone.
        """
        frames = valid.shape[1]
        x = torch.arange(frames, device=valid.device)
        rows = torch.arange(frames + self.steps(frames), device=valid.device)
        length = torch.where(valid, x + 1, 0).amax(1, keepdim=True)
        position = torch.cat([x.expand_as(valid), length + rows[: self.steps(frames)]], dim=1)
        there = torch.cat([valid, valid.new_ones(()).expand(len(valid), self.steps(frames))], dim=1)
        return AttentionPattern(position, lambda b, i, j: (j <= i) & (there[b, j] | (i == j)))

    def _every(self, y: Tensor) -> Tensor:
        return torch.arange(self.steps(y.shape[2]), device=y.device)


@torch.inference_mode()
def continue_(
    model: Model,
    sampler: CausalSampler,
    x: Tensor,
    known: Tensor,
    *,
    labels: Mapping[str, Tensor],
    noise: KeyedRandom,
    guidance: Guidance,
    timelines: Mapping[str, Tensor] = MappingProxyType({}),
    first: int = 0,
) -> Tensor:
    """Decode the stem of whole clips x [B, T, E] that begins with the codes `known` [B, K, P] -> codes [B, K, T].

    labels: name -> classes [B], -1 where withheld. timelines: name -> [B, T, N]. noise: a key for each row and level
    [B, K], to which the number of a frame is added, counted from `first`. Every row is absorbed once.
    """
    layout, levels = Prepended(model.space.codebooks), torch.arange(model.space.codebooks, device=x.device)
    frames, done = x.shape[1], known.shape[2]
    steps = layout.steps(frames)
    codes = torch.cat([known, known.new_zeros(len(known), len(levels), frames - done)], dim=2)
    x, labels = guidance.spread(x, labels)
    start, timelines = model.start(labels), guidance.spread_timelines(timelines)
    state = model.backbone.new_state(len(x), frames + steps, chunk=ABSORBED_AT_ONCE)
    for part in x.split(ABSORBED_AT_ONCE, dim=1):
        model.hidden(part, None, state=state)
    rows = torch.arange(done + 1, device=x.device)  # those whose step comes after the known frames
    for step in range(done, steps):
        for part in rows.split(ABSORBED_AT_ONCE):
            timelines_e = model.timeline_embedding(
                {name: layout.timeline_rows(values, part) for name, values in timelines.items()}
            )
            h = model.hidden(None, guidance.repeat(layout.tokens_in(codes, part)), start, state, timelines_e)
        logits = guidance.combine(model.logits(h[:, -1:])[:, :, 0, model.vocabulary.first_code :])
        picked = sampler.pick(logits, noise.fold(first + step - levels))
        open_ = levels[max(0, step - frames + 1) : step - done + 1]  # levels whose frame s - q is to be filled
        codes[:, open_, step - open_] = picked[:, open_]
        rows = rows[-1:] + 1
    return codes
