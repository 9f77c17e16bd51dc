"""Stretches of a model's own past that it is not told while it trains, so that it has to listen.

What was played a moment ago tells nearly all of what comes next, as long as it is right; a model that is always told
has little reason to hear its input. Where a stretch of it is missing, the input and the timelines have to say it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accomp.core.model.sequence import PADDING

SHORTEST = 1 / 8
"""Of a clip: the least that is missing."""


def forget(y: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Codes y [B, K, T] with a stretch of PADDING in that share of the clips.

    A stretch is SHORTEST of the clip to all of it long, uniformly, and lies anywhere in it. Every clip draws thrice,
    whatever comes of it.
    """
    clips, _, frames = y.shape
    drawn = torch.rand(3, clips, 1, generator=rng, device=rng.device).to(y.device, non_blocking=True)
    length = ((SHORTEST + (1 - SHORTEST) * drawn[1]) * frames).round()
    start = (drawn[2] * (frames - length + 1)).floor()
    at = torch.arange(frames, device=y.device)
    missing = (at >= start) & (at < start + length) & (drawn[0] < share)
    return y.masked_fill(missing[:, None], PADDING)
