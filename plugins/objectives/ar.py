"""Next-step prediction: the objective of the streaming decoder that emits frame by frame."""

from __future__ import annotations

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

    Section 3.2 of arXiv 2510.22105. The clip's tail, where the input or the output before it is missing, is cut.
    Frames that are not valid are neither predicted nor seen.
    """

    decoding: ClassVar[Decoding] = "causal"
    chunked: ClassVar[bool] = False
    clocked: ClassVar[bool] = True

    @frozen
    class Config(AheadKeys):
        """What training is made harder by.

        Attributes:
            forget: share of training clips in which the model is not told a stretch of what it played itself.
            weights: how much a token of each level counts in training, one number a level; all alike where not given.
            ahead, ahead_weight: see core/ahead_keys.py.
        """

        forget: float = field(default=0.0, validator=v.and_(v.ge(0.0), v.le(1.0)))
        weights: tuple[float, ...] = field(default=(), validator=each_level)

    def __init__(self, config: Config, space: TokenSpace):
        super().__init__(config)
        self.levels, self.forget = space.codebooks, config.forget
        self.weights = weights_of(config.weights, space)

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Nats a token; the parts `level_q` are means of one level. A level without a valid frame counts as 0."""
        assert clock is not None, "build refuses this objective without a clock"
        batch = withhold(batch, model.conditions, rng)
        past = drop_past(batch.y, self.forget, rng) if model.training and self.forget else None
        return self.loss_of(model, batch, DelayPattern(clock, self.levels), past)

    def loss_of(self, model: Model, batch: Batch, layout: DelayPattern, past: Tensor | None = None) -> Loss:
        """The loss for a layout, with every condition that the batch has.

        past: what the model is told of the output [B, K, T]; the batch's y where not given.
        """
        y, heard = (
            one.masked_fill(~batch.valid[:, None], PADDING) for one in (batch.y, batch.y if past is None else past)
        )
        told = model.timeline_embedding(
            {name: layout.timeline_rows(values) for name, values in batch.timelines.items()}
        )
        x = layout.inputs(batch.x, model.input_padding)
        h = model.hidden(x, layout.inputs_of(heard), model.start(batch.labels), timelines=told)
        loss = model.cross_entropy(model.logits(h), layout.targets_of(y), self.weights)
        return self.looking_ahead(loss, model, h, lambda steps: layout.targets_of(y, steps), self.weights)
