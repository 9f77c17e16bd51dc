"""The model of codes: logits = heads(backbone(fuser.fuse(x, embed(codes))))."""

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
from accomp.core.model.ear import Ear, with_heard
from accomp.core.model.sequence import DelayPattern
from accomp.core.model.tokens import CONDITION
from accomp.core.model.vocabulary import PAD_ID, Vocabulary
from accomp.core.music.timelines import KINDS
from accomp.core.types import Batch, Loss, TokenSpace


class Model(Accompanist):
    """Predict every level's next code from input latents and the previous codes (arXiv 2510.22105, section 3).

    The model maps rows to logits; the layout determines the rows, and the past is in a state that the caller owns.

    Attributes:
        clock: t_f and k, the visibility of the input; None for a model of whole clips.
        table: embeddings of the K levels' ids, summed over levels; id i of level q is row q * V + i.
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
        self.ear = Ear(space.latent_dim, space.frame_rate, conditions.heard) if conditions.heard else None

    @property
    def layout(self) -> DelayPattern:
        """The sequence layout of a model with a clock. Raises ValueError for one without."""
        if self._layout is None:
            raise ValueError("this model has no clock: it hears whole clips and cannot stream")
        return self._layout

    def forward(
        self,
        x: Tensor,
        tokens_in: Tensor,
        labels: Mapping[str, Tensor],
        timelines: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Tensor:
        """Compute a clip, teacher-forced: x [B, T, E], `tokens_in` [B, K, S] by `layout.inputs_of` -> [B, K, S, V].

        timelines: name -> [B, T, N], the values of each frame.
        """
        return self.logits(self.clip_hidden(x, tokens_in, labels, timelines))

    def clip_hidden(
        self,
        x: Tensor,
        tokens_in: Tensor,
        labels: Mapping[str, Tensor],
        timelines: Mapping[str, Tensor] = MappingProxyType({}),
        heard: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """As `forward`, without the heads -> [B, S, D]. heard: from `hear`, where that is known already."""
        rows = {name: self.layout.timeline_rows(values) for name, values in timelines.items()}
        rows = with_heard(rows, self.hear(x) if heard is None else heard)
        x = self.layout.inputs(x, self.input_padding)
        return self.hidden(x, tokens_in, self.start(labels), timelines=self.timeline_embedding(rows))

    def step(
        self,
        x: Tensor | None,
        tokens_in: Tensor,
        start: Tensor | None,
        state: State | None = None,
        timelines: Tensor | None = None,
    ) -> Tensor:
        """Compute some rows: x [B, S, E] (None: rows without input), tokens_in [B, K, S] -> logits [B, K, S, V].

        `start` is `self.start` of these sessions, `timelines` is `self.timeline_embedding` of these rows; with a state
        the rows follow those absorbed before.
        """
        return self.logits(self.hidden(x, tokens_in, start, state, timelines))

    def hidden(
        self,
        x: Tensor | None,
        tokens_in: Tensor | None,
        start: Tensor | None = None,
        state: State | None = None,
        timelines: Tensor | None = None,
    ) -> Tensor:
        """As `step`, without the heads, and also for rows without output (`tokens_in` None) -> [B, S, D]."""
        e = None if tokens_in is None else self.embed(tokens_in, start, timelines)
        return self.backbone(self.fuser.fuse(x, e), causal=True, state=state)

    def hear(self, x: Tensor) -> dict[str, Tensor]:
        """What the ear makes of a clip x [B, T, E] -> timeline -> [B, S, N], for each row; empty without an ear.

        Zeros in rows before the first input.
        """
        if self.ear is None:
            return {}
        before = self.input_padding.shape[0]
        return {
            name: self.layout.inputs(values, values.new_zeros(before, values.shape[2]))
            for name, values in self.ear(x).items()
        }

    def supplied(self, heard: Mapping[str, Tensor], by_ear: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What was `heard`, in the clips of the masks `by_ear`, name -> [B]; elsewhere zeros. No gradient reaches the
        ear.
        """
        return {name: by_ear[name][:, None, None] * values.detach() for name, values in heard.items()}

    def with_ear(self, loss: Loss, heard: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> Loss:
        """A loss with the errors of what was `heard`: parts `ear_NAME`, in training also in its total.

        truth: timeline -> [B, T, N] of the clip's frames.
        """
        if self.ear is None:
            return loss
        errors = self.ear.loss(heard, {name: self.layout.timeline_rows(truth[name]) for name in heard})
        addend = torch.stack(list(errors.values())).sum() if self.training else None
        return loss.beside({f"ear_{name}": error for name, error in errors.items()}, addend)

    def logits(self, h: Tensor) -> Tensor:
        """Apply the heads to h [B, S, D], the backbone's output -> [B, K, S, V]."""
        return self.heads(h).unflatten(-1, (-1, self.vocabulary.size)).transpose(1, 2)

    def cross_entropy(self, logits: Tensor, target: Tensor, weights: Sequence[float] | None = None) -> Loss:
        """Cross entropy of logits [B, K, S, V] and target codes [B, K, S]; targets below 0 do not count.

        `weights` of the levels count in training only; elsewhere a loss is in nats a token.
        """
        ids = self.vocabulary.ids(target)
        codes = logits[..., self.vocabulary.first_code :]
        return Loss.over(
            nats_of(logits, ids), target >= 0, self.likeliest(codes, target), weights if self.training else None
        )

    def likeliest(self, logits: Tensor, target: Tensor) -> Tensor | None:
        """Whether the likeliest of codes [B, K, S, C] is the target [B, K, S]; None in training, where it is unused."""
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
        """Embed labels as an addend of every position of a model without a start row [B, 1, De]; 0 where withheld."""
        ids = self.vocabulary.label_ids(labels)
        if ids is None:
            return None
        e = self._look_up(ids[:, None].expand(-1, self.space.codebooks, -1)).sum(1)
        return e.masked_fill((ids == PAD_ID)[..., None], 0.0).sum(1, keepdim=True)

    def embed(self, tokens_in: Tensor, start: Tensor | None = None, timelines: Tensor | None = None) -> Tensor:
        """Embed tokens_in [B, K, S] -> [B, S, De]; CONDITION as `start`, other negative tokens as PAD_ID.

        `timelines` [B, S, De] is added.
        """
        e = self._look_up(self.vocabulary.ids(tokens_in))
        if start is not None:
            e = torch.where((tokens_in == CONDITION)[..., None], start[:, :, None], e)
        return e.sum(1) if timelines is None else e.sum(1) + timelines

    def _look_up(self, ids: Tensor) -> Tensor:
        """ids [B, K, n] -> [B, K, n, De]."""
        return self.table(ids + self.first_rows)


def nats_of(logits: Tensor, ids: Tensor) -> Tensor:
    """Cross entropy of logits [..., V] and ids [...], float32 [...].

    Compiled, the logits are read once, and once more for their gradient; torch's own function has gradients of each
    step, as large as they are.
    """
    if not torch.compiler.is_compiling():
        return F.cross_entropy(logits.flatten(0, -2).float(), ids.flatten(), reduction="none").view_as(ids)
    logits = logits.float()
    here = torch.arange(logits.shape[-1], device=ids.device) == ids[..., None]
    return logits.logsumexp(-1) - torch.where(here, logits, 0.0).sum(-1)


def withhold(batch: Batch, conditions: Conditions, rng: torch.Generator) -> Batch:
    """Withhold labels and timelines that `conditions` names from a batch, each in its share of the items.

    Withheld: x and a timeline are zero, a label is -1. Every item draws for every condition. What the ear may supply
    instead is in `by_ear`, nothing without the context. Raises ValueError for a label or a timeline that the batch
    lacks.
    """
    if missing := sorted(set(conditions.labels) - set(batch.labels)):
        raise ValueError(f"the model takes the labels {missing}, which the batch lacks; it has {sorted(batch.labels)}")
    if missing := sorted(set(conditions.timelines) - set(batch.timelines)):
        has = sorted(batch.timelines)
        raise ValueError(f"the model takes the timelines {missing}, which the batch lacks; it has {has}")

    def draw(share: float) -> Tensor:
        draws = torch.rand(batch.y.shape[0], generator=rng, device=rng.device)
        return (draws < share).to(batch.y.device, non_blocking=True)

    silent = draw(conditions.context.drop)
    x = batch.x.masked_fill(silent[:, None, None], 0.0)
    labels = {name: batch.labels[name].masked_fill(draw(c.drop), -1) for name, c in conditions.labels.items()}
    timelines = {}
    for name, c in conditions.timelines.items():
        values = batch.timelines[name].masked_fill(draw(c.drop)[:, None, None], 0.0)
        if c.detail:
            detail = torch.arange(values.shape[2], device=values.device) >= KINDS[name].detail
            values = values.masked_fill(draw(c.detail)[:, None, None] & detail, 0.0)
        timelines[name] = values
    by_ear = {name: draw(conditions.timelines[name].heard) & ~silent for name in conditions.heard}
    return attrs.evolve(batch, x=x, labels=labels, timelines=timelines, truth=batch.timelines, by_ear=by_ear)
