"""The model: logits = heads(backbone(fuser.fuse(x, embed(codes))))."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.core.clock import Clock
from accomp.core.interfaces import Backbone, Fuser, State
from accomp.core.model.accompanist import Accompanist, timeline_layer
from accomp.core.model.conditions import Conditions
from accomp.core.model.sequence import LABELS, DelayPattern
from accomp.core.model.vocabulary import PAD, Vocabulary
from accomp.core.music.timelines import KINDS
from accomp.core.types import Batch, Loss, TokenSpace


class Model(Accompanist):
    """Predicts every level's next code from input latents and the codes before (arXiv 2510.22105, section 3).

    It knows how one row becomes logits; which rows there are is the layout's business, and what happened before is in a
    state that its owner holds.

    Attributes:
        clock: what a prediction may see; None for a model that hears whole clips.
        table: what the K levels' ids look like, added up over levels; id i of level q is row q * V + i.
        heads: side by side, one for each level.
        input_padding: [P, E], P = clock.input_padding; none without a clock.
    """

    def __init__(
        self,
        fuser: Fuser,
        backbone: Backbone,
        space: TokenSpace,
        clock: Clock | None,
        conditions: Conditions,
        width: int,
    ):
        super().__init__()
        self.space, self.clock, self.conditions = space, clock, conditions
        self._layout = DelayPattern(clock, space.codebooks) if clock else None
        self.vocabulary = Vocabulary.of(space, {name: label.count for name, label in conditions.labels.items()})
        self.fuser, self.backbone = fuser, backbone
        levels, size = self.vocabulary.codebooks, self.vocabulary.size
        self.table = nn.Embedding(levels * size, fuser.embed_width)
        self.first_rows: Tensor
        self.register_buffer("first_rows", torch.arange(levels)[:, None] * size, persistent=False)
        self.heads = nn.Linear(width, levels * size)
        self.input_padding = nn.Parameter(torch.empty(clock.input_padding if clock else 0, space.latent_dim))
        self.timelines = nn.ModuleDict(
            {name: timeline_layer(KINDS[name].width, fuser.embed_width) for name in conditions.timelines}
        )
        nn.init.normal_(self.table.weight, std=0.02)
        nn.init.normal_(self.input_padding, std=0.02)

    @property
    def layout(self) -> DelayPattern:
        """How a model with a clock lays out its sequence. Raises ValueError for one without."""
        if self._layout is None:
            raise ValueError("this model has no clock: it hears whole clips and cannot stream")
        return self._layout

    def forward(
        self,
        x: Tensor,
        held: Tensor,
        labels: Mapping[str, Tensor],
        timelines: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Tensor:
        """A whole clip, teacher-forced: x [B, T, E], `held` codes [B, K, S] by Layout.clip -> logits [B, K, S, V].

        timelines: name -> [B, T, N], what is told of each frame.
        """
        told = self.timeline_embedding({name: self.layout.timeline_rows(values) for name, values in timelines.items()})
        return self.step(self.layout.inputs(x, self.input_padding), held, self.start(labels), told=told)

    def step(
        self,
        x: Tensor | None,
        held: Tensor,
        start: Tensor | None,
        state: State | None = None,
        told: Tensor | None = None,
    ) -> Tensor:
        """Some rows: x [B, S, E] (None: rows without input), held [B, K, S] -> logits [B, K, S, V].

        `start` is what `self.start` gave for these sessions, `told` what `self.told` gave for these rows; with a state
        the rows follow those it has absorbed.
        """
        return self.logits(self.hidden(x, held, start, state, told))

    def hidden(
        self,
        x: Tensor | None,
        held: Tensor | None,
        start: Tensor | None = None,
        state: State | None = None,
        told: Tensor | None = None,
    ) -> Tensor:
        """As `rows`, without the heads, and also for rows without output (`held` None) -> [B, S, D]."""
        e = None if held is None else self.embed(held, start, told)
        return self.backbone(self.fuser.fuse(x, e), causal=True, state=state)

    def logits(self, h: Tensor) -> Tensor:
        """h [B, S, D], what the backbone made of some rows -> [B, K, S, V]."""
        return self.heads(h).unflatten(-1, (-1, self.vocabulary.size)).transpose(1, 2)

    def cross_entropy(self, logits: Tensor, target: Tensor, weights: Sequence[float] | None = None) -> Loss:
        """What logits [B, K, S, V] make of the codes that come, target [B, K, S]; those below 0 do not count.

        `weights` of the levels count in training only: out of it a loss is nats a token.
        """
        ids = self.vocabulary.ids(target)
        nats = F.cross_entropy(logits.flatten(0, 2).float(), ids.flatten(), reduction="none")
        codes = logits[..., self.vocabulary.first_code :]
        return Loss.over(
            nats.view_as(ids), target >= 0, self.likeliest(codes, target), weights if self.training else None
        )

    def likeliest(self, logits: Tensor, target: Tensor) -> Tensor | None:
        """Whether the likeliest of codes [B, K, S, C] is the target [B, K, S]; None in training, where none asks."""
        return None if self.training else logits.argmax(-1) == target

    def level_logits(self, h: Tensor, level: int) -> Tensor:
        """h [B, S, D] -> [B, S, C], the codes of one level; the other heads are not computed."""
        first, end = level * self.vocabulary.size + self.vocabulary.first_code, (level + 1) * self.vocabulary.size
        if isinstance(self.heads, nn.Linear):
            return F.linear(h, self.heads.weight[first:end], self.heads.bias[first:end])
        return self.heads(h, slice(first, end))

    def start(self, labels: Mapping[str, Tensor]) -> Tensor | None:
        """Labels (name -> classes [B], -1 withheld) -> the sum of their embeddings on each level [B, K, De]."""
        ids = self.vocabulary.label_ids(labels)
        return None if ids is None else self._look_up(ids[:, None].expand(-1, self.space.codebooks, -1)).sum(2)

    def label_embedding(self, labels: Mapping[str, Tensor]) -> Tensor | None:
        """Labels -> what they add to every position of a model without a start row [B, 1, De]; 0 where withheld."""
        ids = self.vocabulary.label_ids(labels)
        if ids is None:
            return None
        e = self._look_up(ids[:, None].expand(-1, self.space.codebooks, -1)).sum(1)
        return e.masked_fill((ids == PAD)[..., None], 0.0).sum(1, keepdim=True)

    def embed(self, held: Tensor, start: Tensor | None = None, told: Tensor | None = None) -> Tensor:
        """held [B, K, S] codes, `start` where they are LABELS, PAD where there is nothing -> [B, S, De].

        `told` [B, S, De] is added.
        """
        e = self._look_up(self.vocabulary.ids(held))
        if start is not None:
            e = torch.where((held == LABELS)[..., None], start[:, :, None], e)
        return e.sum(1) if told is None else e.sum(1) + told

    def _look_up(self, ids: Tensor) -> Tensor:
        """ids [B, K, n] -> [B, K, n, De]."""
        return self.table(ids + self.first_rows)


def withhold(batch: Batch, conditions: Conditions, rng: torch.Generator) -> Batch:
    """The batch with the labels and timelines that `conditions` names, each withheld in its share of the items.

    Withheld: x and a timeline are zero, a label is -1. Every item draws for every condition. Raises ValueError for a
    label or a timeline that the batch lacks.
    """
    if missing := sorted(set(conditions.labels) - set(batch.labels)):
        raise ValueError(f"the model takes the labels {missing}, which the batch lacks; it has {sorted(batch.labels)}")
    if missing := sorted(set(conditions.timelines) - set(batch.timelines)):
        has = sorted(batch.timelines)
        raise ValueError(f"the model takes the timelines {missing}, which the batch lacks; it has {has}")

    def chosen(share: float) -> Tensor:
        draws = torch.rand(batch.y.shape[0], generator=rng, device=rng.device)
        return (draws < share).to(batch.y.device, non_blocking=True)

    x = batch.x.masked_fill(chosen(conditions.context.drop)[:, None, None], 0.0)
    labels = {name: batch.labels[name].masked_fill(chosen(c.drop), -1) for name, c in conditions.labels.items()}
    timelines = {}
    for name, c in conditions.timelines.items():
        told = batch.timelines[name].masked_fill(chosen(c.drop)[:, None, None], 0.0)
        if c.detail:
            detail = torch.arange(told.shape[2], device=told.device) >= KINDS[name].detail
            told = told.masked_fill(chosen(c.detail)[:, None, None] & detail, 0.0)
        timelines[name] = told
    return attrs.evolve(batch, x=x, labels=labels, timelines=timelines)
