"""Dropout of a contiguous part of a model's own past in training.

Under teacher forcing the past output predicts most of the next, so that a model has little reason to use its input.
Where a part of the past is missing, the input and the timelines have to supply the information.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accomp.core.model.tokens import PADDING

SHORTEST = 1 / 8
"""Minimum length of the missing part, as a share of the clip."""


def drop_past(y: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Replace a contiguous part of codes y [B, K, T] by PADDING in that share of the clips.

    Its length is uniform between SHORTEST of the clip and all of it, its place uniform. Every clip draws three numbers,
    used or not, so that draws do not depend on their results.
    """
    clips, _, frames = y.shape
    drawn = torch.rand(3, clips, 1, generator=rng, device=rng.device).to(y.device, non_blocking=True)
    length = ((SHORTEST + (1 - SHORTEST) * drawn[1]) * frames).round()
    start = (drawn[2] * (frames - length + 1)).floor()
    at = torch.arange(frames, device=y.device)
    missing = (at >= start) & (at < start + length) & (drawn[0] < share)
    return y.masked_fill(missing[:, None], PADDING)
