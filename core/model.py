"""The model: logits = heads(backbone(fuser.fuse(x, embed(codes))))."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from torch import Tensor, nn

from accomp.core.interfaces import Backbone, Fuser, State
from accomp.core.spec import Conditions
from accomp.core.streaming.clock import Clock
from accomp.core.streaming.layout import LABELS, Layout
from accomp.core.types import Batch, TokenSpace
from accomp.core.vocabulary import Vocabulary


class Model(nn.Module):
    """Predicts every level's next code from input latents and the codes before (arXiv 2510.22105, section 3).

    It knows how one row becomes logits; which rows there are is the layout's business, and what happened before is in a
    state that its owner holds.

    Attributes:
        table: what the K levels' ids look like, added up over levels; id i of level q is row q * V + i.
        heads: side by side, one for each level.
        input_padding: [P, E], learned input frames before the first, P = clock.input_padding.
    """

    def __init__(
        self, fuser: Fuser, backbone: Backbone, space: TokenSpace, clock: Clock, conditions: Conditions, width: int
    ):
        super().__init__()
        self.space, self.clock, self.conditions = space, clock, conditions
        self.layout = Layout(clock, space.codebooks)
        self.vocabulary = Vocabulary.of(space, {name: label.classes for name, label in conditions.labels.items()})
        self.fuser, self.backbone = fuser, backbone
        levels, size = self.vocabulary.codebooks, self.vocabulary.size
        self.table = nn.Embedding(levels * size, fuser.embed_width)
        self.first_rows: Tensor
        self.register_buffer("first_rows", torch.arange(levels)[:, None] * size, persistent=False)
        self.heads = nn.Linear(width, levels * size)
        self.input_padding = nn.Parameter(torch.empty(clock.input_padding, space.latent_dim))
        nn.init.normal_(self.table.weight, std=0.02)
        nn.init.normal_(self.input_padding, std=0.02)

    def forward(self, x: Tensor, held: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """A whole clip, teacher-forced: x [B, T, E], `held` codes [B, K, S] by Layout.clip -> logits [B, K, S, V]."""
        return self.rows(self.layout.inputs(x, self.input_padding), held, self.start(labels))

    def rows(self, x: Tensor | None, held: Tensor, start: Tensor | None, state: State | None = None) -> Tensor:
        """Some rows: x [B, S, E] (None: rows without input), held [B, K, S] -> logits [B, K, S, V].

        `start` is what `self.start` gave for these sessions; with a state the rows follow those it has absorbed.
        """
        h = self.backbone(self.fuser.fuse(x, self.embed(held, start)), causal=True, state=state)
        return self.heads(h).unflatten(-1, (-1, self.vocabulary.size)).transpose(1, 2)

    def start(self, labels: Mapping[str, Tensor]) -> Tensor | None:
        """Labels (name -> classes [B], -1 withheld) -> the sum of their embeddings on each level [B, K, De]."""
        ids = self.vocabulary.label_ids(labels)
        return None if ids is None else self._look_up(ids[:, None].expand(-1, self.space.codebooks, -1)).sum(2)

    def embed(self, held: Tensor, start: Tensor | None) -> Tensor:
        """held [B, K, S] codes, `start` where they are LABELS, PAD where there is nothing -> [B, S, De]."""
        e = self._look_up(self.vocabulary.ids(held))
        if start is not None:
            e = torch.where((held == LABELS)[..., None], start[:, :, None], e)
        return e.sum(1)

    def _look_up(self, ids: Tensor) -> Tensor:
        """ids [B, K, n] -> [B, K, n, De]."""
        return self.table(ids + self.first_rows)


def withhold(batch: Batch, conditions: Conditions, rng: torch.Generator) -> Batch:
    """The batch with the labels that `conditions` names, and each condition withheld in its share of the items.

    Withheld: x is zero, a label is -1. Every item draws for every condition. Raises ValueError for a missing label.
    """
    if missing := sorted(set(conditions.labels) - set(batch.labels)):
        raise ValueError(f"the model takes the labels {missing}, which the batch lacks; it has {sorted(batch.labels)}")

    def chosen(share: float) -> Tensor:
        draws = torch.rand(batch.y.shape[0], generator=rng, device=rng.device)
        return (draws < share).to(batch.y.device)

    x = batch.x.masked_fill(chosen(conditions.context.drop)[:, None, None], 0.0)
    labels = {name: batch.labels[name].masked_fill(chosen(c.drop), -1) for name, c in conditions.labels.items()}
    return attrs.evolve(batch, x=x, labels=labels)
