"""Next-step prediction behind the whole input: the objective of the offline prefix decoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from attrs import frozen

from accomp.plugin import Batch, Clock, Decoding, Loss, TokenSpace
from accomp.plugin.sequences import PADDING, Model, Prepended, withhold


class PrefixOffline:
    """Cross entropy of y[q, s - q] given all of x and the steps before s, over all valid frames of all levels.

    The offline baseline of section 4 of arXiv 2510.22105: input and output stand one after the other in time. Frames
    that are not valid are neither predicted nor seen nor heard: a clip that is padded at its end counts as it would
    alone, which is how the model plays an input that is shorter than its training clips.
    """

    decoding: ClassVar[Decoding] = "causal"
    chunked: ClassVar[bool] = False
    clocked: ClassVar[bool] = False

    @frozen
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config, space: TokenSpace):
        self.layout = Prepended(space.codebooks)

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Nats a token; the parts `level_q` are means of one level. A level without a valid frame counts as 0."""
        return self.loss_of(model, withhold(batch, model.conditions, rng))

    def loss_of(self, model: Model, batch: Batch) -> Loss:
        """The loss with every condition that the batch has."""
        y = batch.y.masked_fill(~batch.valid[:, None], PADDING)
        x = model.fuser.fuse(batch.x, None)
        told = model.timeline_embedding(
            {name: self.layout.timeline_rows(values) for name, values in batch.timelines.items()}
        )
        e = model.fuser.fuse(None, model.embed(self.layout.tokens_in(y), model.start(batch.labels), told))
        h = model.backbone(torch.cat([x, e], dim=1), sight=self.layout.sight(batch.valid))
        return model.cross_entropy(model.logits(h[:, x.shape[1] :]), self.layout.targets_of(y))
