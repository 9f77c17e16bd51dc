"""Rollouts of a model in training: blocks in sequence, each with a gradient through its last prediction alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from accomp.core.diffusion.process import clean_of, noised
from accomp.core.interfaces import Draw

Velocity = Callable[[Tensor, float], Tensor]
"""x [B, E, k] at noise level t -> velocity [B, E, k]."""


def rolled_block(predict: Velocity, draw: Draw, levels: Sequence[float], steps: int) -> Tensor:
    """Predict the clean block [B, E, k] after `steps` ping-pong steps; all but the last step have no gradient.

    `steps` from 1 to len(levels) - 1; `draw` as a sampler's.
    """
    x = draw(0).detach()
    for number in range(steps):
        last = number == steps - 1
        with nullcontext() if last else torch.no_grad():
            clean = clean_of(x, predict(x, levels[number]), levels[number])
            x = clean if last else noised(clean, draw(number + 1), levels[number + 1])
    return x


def roll_out(
    begin: Callable[[int, Tensor | None], Velocity],
    draw: Callable[[int], Draw],
    levels: Sequence[float],
    steps: Sequence[int],
) -> Tensor:
    """Generate blocks of `steps[b]` steps each, joined [B, E, len(steps) k]: self-forcing without gradient through
    time.

    begin: number of a block, the blocks before it [B, E, ...], detached (None before the first) -> its velocity.
    """
    blocks: list[Tensor] = []
    for number, count in enumerate(steps):
        past = torch.cat([block.detach() for block in blocks], dim=2) if blocks else None
        blocks.append(rolled_block(begin(number, past), draw(number), levels, count))
    return torch.cat(blocks, dim=2)
