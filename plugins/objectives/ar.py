"""Next-step prediction: the objective of the frame-by-frame streaming decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.plugin import Batch, Clock, Decoding, Loss, TokenSpace
from accomp.plugin.sequences import (
    PADDING,
    AheadKeys,
    DelayPattern,
    LooksAhead,
    Model,
    drop_past,
    each_level,
    weights_of,
    withhold,
)


class AR(LooksAhead):
    """Cross entropy of y[q, s - q] given x[< s + t_f] and the steps before s, over all valid frames of all levels.

    Section 3.2 of arXiv 2510.22105. The end of the clip, where input or past output
    is missing, is cut. Invalid frames are neither targets nor inputs.
    """

    decoding: ClassVar[Decoding] = "causal"
    chunked: ClassVar[bool] = False
    clocked: ClassVar[bool] = True
    hears: ClassVar[bool] = True

    @frozen
    class Config(AheadKeys):
        """Regularization and loss weights.

        Attributes:
            forget: share of training clips with a masked stretch of past output.
            weights: weight of each level in the training loss, one number a level; equal by default.
            ahead, ahead_weight: see core/model/ahead_keys.py.
        """

        forget: float = field(default=0.0, validator=v.and_(v.ge(0.0), v.le(1.0)))
        weights: tuple[float, ...] = field(default=(), validator=each_level)

    def __init__(self, config: Config, space: TokenSpace):
        super().__init__(config)
        self.levels, self.forget = space.codebooks, config.forget
        self.weights = weights_of(config.weights, space)

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Compute nats per token; the parts `level_q` are means of one level, 0 for a level without valid frames.

        The ear of a model that has one learns beside it, from the timelines before any was withheld.
        """
        assert clock is not None, "build refuses this objective without a clock"
        batch = withhold(batch, model.conditions, rng)
        past = drop_past(batch.y, self.forget, rng) if model.training and self.forget else None
        heard = model.hear(batch.x)
        supplied = model.supplied(heard, batch.by_ear)
        loss = self.loss_of(model, batch, DelayPattern(clock, self.levels), past, supplied)
        return model.with_ear(loss, heard, batch.truth)

    def loss_of(
        self,
        model: Model,
        batch: Batch,
        layout: DelayPattern,
        past: Tensor | None = None,
        heard: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        """Compute the loss for a delay pattern with all conditions of the batch.

        past: past output given to the model [B, K, T]; the batch's y by default. heard: what the model's ear supplies
        at each row, as `Model.hear` gives it; that by default.
        """
        y, given = (
            one.masked_fill(~batch.valid[:, None], PADDING) for one in (batch.y, batch.y if past is None else past)
        )
        h = model.clip_hidden(batch.x, layout.inputs_of(given), batch.labels, batch.timelines, heard)
        loss = model.cross_entropy(model.logits(h), layout.targets_of(y), self.weights)
        return self.looking_ahead(loss, model, h, lambda steps: layout.targets_of(y, steps), self.weights)
