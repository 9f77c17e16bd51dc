"""Masked-token prediction: the objective of StemGen, an offline model of whole clips."""

from __future__ import annotations

from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from accomp.plugin import AttentionPattern, Batch, Clock, Decoding, Loss, TokenSpace
from accomp.plugin.sequences import MASK, Model, hidden, nats_of, tiled, training_mask, whole_clip, withhold


class MLM:
    """Cross entropy of the masked codes given the whole input and the unmasked codes of all frames.

    Section 2.1 of arXiv 2312.08723; core.model.masking.training_mask draws the masks. There is no delay between levels.
    Invalid frames are neither targets nor inputs: padding at the end of a clip does not change its loss.
    """

    decoding: ClassVar[Decoding] = "masked"
    chunked: ClassVar[bool] = False
    clocked: ClassVar[bool] = False
    tiles: bool = False

    @frozen
    class Config:
        """No options."""

    def __init__(self, config: Config, space: TokenSpace):
        pass

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Compute nats per masked code, with masks and condition dropout drawn from `rng`.

        The parts `level_q` are means of one level, 0 for a level without masked codes.
        """
        batch = withhold(batch, model.conditions, rng)
        masked = training_mask(batch.y.shape, rng).to(batch.y.device, non_blocking=True)
        return self.loss_of(model, batch, masked, tiled(whole_clip(batch.valid)) if self.tiles else None)

    def loss_of(self, model: Model, batch: Batch, masked: Tensor, sight: AttentionPattern | None = None) -> Loss:
        """Compute the loss for given masks [B, K, T] bool with all conditions of the batch.

        sight: that of the batch's valid frames.
        """
        counted = masked & batch.valid[:, None]
        held = batch.y.masked_fill(masked | ~batch.valid[:, None], MASK)
        h = hidden(model, batch.x, held, batch.labels, batch.valid, batch.timelines, sight)
        logits = model.logits(h)[..., model.vocabulary.first_code :]
        target = batch.y.masked_fill(~counted, 0)
        return Loss.over(nats_of(logits, target), counted, model.likeliest(logits, target))
