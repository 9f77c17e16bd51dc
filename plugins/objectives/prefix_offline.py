"""Next-step prediction with the whole input as prefix: the objective of the offline prefix decoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from attrs import frozen

from accomp.plugin import AttentionPattern, Batch, Clock, Decoding, Loss, TokenSpace
from accomp.plugin.sequences import PADDING, Model, Prepended, tiled, withhold


class PrefixOffline:
    """Cross entropy of y[q, s - q] given all of x and the steps before s, over all valid frames of all levels.

    The offline baseline of section 4 of arXiv 2510.22105: input and output are concatenated in time. Invalid
    frames are neither targets nor inputs: padding at the end of a clip does not change its loss. Generation relies on
    this for inputs shorter than the training clips.
    """

    decoding: ClassVar[Decoding] = "causal"
    chunked: ClassVar[bool] = False
    clocked: ClassVar[bool] = False
    tiles: bool = False

    @frozen
    class Config:
        """No options."""

    def __init__(self, config: Config, space: TokenSpace):
        self.layout = Prepended(space.codebooks)

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Compute nats per token; the parts `level_q` are means of one level, 0 for a level without valid frames."""
        sight = tiled(self.layout.sight(batch.valid)) if self.tiles else None
        return self.loss_of(model, withhold(batch, model.conditions, rng), sight)

    def loss_of(self, model: Model, batch: Batch, sight: AttentionPattern | None = None) -> Loss:
        """Compute the loss with all conditions of the batch; sight: that of its valid frames."""
        y = batch.y.masked_fill(~batch.valid[:, None], PADDING)
        x = model.fuser.fuse(batch.x, None)
        told = model.timeline_embedding(
            {name: self.layout.timeline_rows(values) for name, values in batch.timelines.items()}
        )
        e = model.fuser.fuse(None, model.embed(self.layout.tokens_in(y), model.start(batch.labels), told))
        sight = self.layout.sight(batch.valid) if sight is None else sight
        h = model.backbone(torch.cat([x, e], dim=1), sight=sight)
        return model.cross_entropy(model.logits(h[:, x.shape[1] :]), self.layout.targets_of(y))
