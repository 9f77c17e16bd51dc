"""Next-chunk prediction: the objective of the chunked streaming decoder, k frames at a time."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import attrs
import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.plugin import AttentionPattern, Batch, Clock, Decoding, Loss, TokenSpace
from accomp.plugin.sequences import (
    PADDING,
    AheadKeys,
    Chunks,
    DelayPattern,
    LooksAhead,
    Model,
    chunk_starts,
    draw_starts,
    drop_past,
    each_level,
    tiled,
    weights_of,
    with_heard,
    withhold,
)


def _some(_: Any, attribute: attrs.Attribute, count: int | str) -> None:
    if count != "all" and not (isinstance(count, int) and count >= 1):
        raise ValueError(f"{attribute.name} must be at least 1 chunk, or 'all'; got {count!r}")


class Prefix(LooksAhead):
    """Cross entropy of the k steps of a chunk from s on, given x[< s + t_f] and the steps before each.

    Section A.6 of arXiv 2510.22105. Each clip draws its own chunks, without replacement, among those at s = 0, k, 2k,
    ... that fit in it; one forward pass of at most twice the clip's length computes them all. Evaluation predicts every
    chunk, to reduce the variance of the loss. Invalid frames are neither targets nor inputs. With k = 1 and every chunk
    this is the objective of the frame-by-frame decoder.
    """

    decoding: ClassVar[Decoding] = "causal"
    chunked: ClassVar[bool] = True
    clocked: ClassVar[bool] = True
    hears: ClassVar[bool] = True
    tiles: bool = False

    @frozen
    class Config(AheadKeys):
        """Number of target chunks, regularization and loss weights.

        Attributes:
            chunks: target chunks per clip, or "all"; 1 in the paper. More chunks reduce the gradient noise of a
                forward pass and leave its expectation unchanged.
            forget: share of training clips with a masked stretch of past output.
            weights: weight of each level in the training loss, one number a level; equal by default.
            ahead, ahead_weight: see core/model/ahead_keys.py.
        """

        chunks: int | Literal["all"] = field(default=1, validator=_some)
        forget: float = field(default=0.0, validator=v.and_(v.ge(0.0), v.le(1.0)))
        weights: tuple[float, ...] = field(default=(), validator=each_level)

    def __init__(self, config: Config, space: TokenSpace):
        super().__init__(config)
        self.levels = space.codebooks
        self.chunks = None if config.chunks == "all" else config.chunks
        self.forget, self.weights = config.forget, weights_of(config.weights, space)

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Compute nats per token; a level or chunk without valid frames counts as 0.

        The ear of a model that has one learns beside it. A chunk's steps after the first, which have no input, take
        what its first one heard, further on.

        Raises ValueError for a clip in which no chunk fits.
        """
        assert clock is not None, "build refuses this objective without a clock"
        batch = withhold(batch, model.conditions, rng)
        layout, frames = DelayPattern(clock, self.levels), batch.y.shape[2]
        starts = chunk_starts(layout, frames)
        if not starts:
            raise ValueError(f"no chunk fits in a clip of {frames} frames at {clock}; take longer clips")
        count = self.chunks if model.training else None
        drawn = draw_starts(starts, len(batch.y), count, rng).to(batch.y.device, non_blocking=True)
        past = drop_past(batch.y, self.forget, rng) if model.training and self.forget else None
        chunks = Chunks(layout, frames, drawn)
        sight = tiled(chunks.sight()) if self.tiles else None
        heard = model.hear(batch.x)
        loss = self.loss_of(model, batch, chunks, past, sight, model.supplied(heard, batch.by_ear))
        return model.with_ear(loss, heard, batch.truth)

    def loss_of(
        self,
        model: Model,
        batch: Batch,
        chunks: Chunks,
        past: Tensor | None = None,
        sight: AttentionPattern | None = None,
        heard: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Loss:
        """Compute the loss of given chunks with all conditions of the batch.

        past: past output given to the model [B, K, T]; the batch's y by default. sight: that of the chunks.
        heard: what the model's ear supplies at each row of the clip, as `Model.hear` gives it; nothing by default.
        """
        layout = chunks.layout
        y, given = (
            one.masked_fill(~batch.valid[:, None], PADDING) for one in (batch.y, batch.y if past is None else past)
        )
        timelines = {name: chunks.timeline_rows(values) for name, values in batch.timelines.items()}
        if model.ear is not None and heard:
            newest = {name: chunks.of_newest(values) for name, values in heard.items()}
            timelines = with_heard(timelines, model.ear.ahead(newest, chunks.ahead))
        told = model.timeline_embedding(timelines)
        e = model.embed(chunks.tokens_in(given), model.start(batch.labels), told)
        rows = layout.rows(chunks.frames)
        fused = model.fuser.fuse(layout.inputs(batch.x, model.input_padding), e[:, :rows])
        alone = model.fuser.fuse(None, e[:, rows:])
        sight = chunks.sight() if sight is None else sight
        h = chunks.predicting_rows(model.backbone(torch.cat([fused, alone], dim=1), sight=sight))
        loss = model.cross_entropy(model.logits(h), chunks.targets_of(y), self.weights)
        return self.looking_ahead(loss, model, h, lambda steps: chunks.targets_of(y, steps), self.weights)
