"""Playing a masked model: one position a frame, all frames in sight of each other, the unknown ones filled in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from accomp.core.guidance import Guidance
from accomp.core.interfaces import MaskedSampler
from accomp.core.masking import MASKED
from accomp.core.model import Model
from accomp.core.streaming.noise import Noise
from accomp.core.types import Sight


def hidden(model: Model, x: Tensor, held: Tensor, labels: Mapping[str, Tensor], valid: Tensor | None = None) -> Tensor:
    """x [B, T, E] and codes [B, K, T], MASKED where unknown -> what the backbone makes of each frame [B, T, D].

    The labels are added to every frame, and every frame sees all others (arXiv 2312.08723, section 2.1), or those that
    are `valid` [B, T].
    """
    h = model.fuser.fuse(x, model.embed(held), model.label_embedding(labels))
    if valid is None:
        return model.backbone(h, causal=False)
    frame = torch.arange(x.shape[1], device=x.device)
    return model.backbone(h, sight=Sight(frame[None], valid[:, None] | (frame[:, None] == frame)))


@torch.inference_mode()
def fill(
    model: Model,
    sampler: MaskedSampler,
    x: Tensor,
    known: Tensor,
    *,
    labels: Mapping[str, Tensor],
    noise: Noise,
    guidance: Guidance,
) -> Tensor:
    """The stem of whole clips x [B, T, E] that begins with the codes `known` [B, K, P] -> codes [B, K, T].

    labels: name -> classes [B], -1 where withheld. noise: a key for each row and level [B, K]. Each forward is one
    batch with all variants that the guidance compares, and one level's head.
    """
    x, labels = guidance.spread(x, labels)

    def predict(canvas: Tensor, level: int) -> Tensor:
        h = hidden(model, x, guidance.repeat(canvas), labels)
        return guidance.combine(model.level_logits(h, level))

    batch, levels, done = known.shape
    canvas = torch.cat([known, known.new_full((batch, levels, x.shape[1] - done), MASKED)], dim=2)
    return sampler.fill(predict, canvas, canvas == MASKED, noise)
