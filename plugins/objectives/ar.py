"""Next-step prediction: the objective of the streaming decoder that emits frame by frame."""

from __future__ import annotations

from typing import ClassVar

import torch
from attrs import frozen

from accomp.core.interfaces import Decoding
from accomp.core.model import Model, withhold
from accomp.core.streaming.clock import Clock
from accomp.core.streaming.layout import PADDING, Layout
from accomp.core.types import Batch, Loss, TokenSpace


class AR:
    """Cross entropy of y[q, s - q] given x[< s + t_f] and the steps before s, over all valid frames of all levels.

    Section 3.2 of arXiv 2510.22105. The clip's tail, where the input or the output before it is missing, is cut.
    Frames that are not valid are neither predicted nor seen.
    """

    decoding: ClassVar[Decoding] = "causal"
    chunked: ClassVar[bool] = False
    clocked: ClassVar[bool] = True

    @frozen
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config, space: TokenSpace):
        self.levels = space.codebooks

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Nats a token; the parts `level_q` are means of one level. A level without a valid frame counts as 0."""
        assert clock is not None, "build refuses this objective without a clock"
        return self.loss_of(model, withhold(batch, model.conditions, rng), Layout(clock, self.levels))

    def loss_of(self, model: Model, batch: Batch, layout: Layout) -> Loss:
        """The loss for a layout, with every condition that the batch has."""
        y = batch.y.masked_fill(~batch.valid[:, None], PADDING)
        return model.cross_entropy(model(batch.x, layout.clip(y), batch.labels, batch.timelines), layout.targets(y))
