"""A step of playing: fuse, backbone, heads, sampling. All that it reads and writes lies in place, so that it compiles.

Nothing in it looks at a value or changes a shape: torch.compile makes one graph of `heard`, and for k > 1 another one
of `alone`, and neither is ever made again. On a GPU each is recorded once more, as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from attrs import field, frozen
from torch import Tensor

from accomp.core.interfaces import CausalSampler
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.guidance import Guidance
from accomp.core.model.model import Model
from accomp.core.model.tokens import CONDITION
from accomp.core.music.timelines import KINDS
from accomp.core.spec.runtime import Runtime
from accomp.core.streaming.graphs import captured_step


@frozen(eq=False)
class Sessions:
    """Who plays in B rows, and how.

    Attributes:
        noise: its keys are [B, K].
        labels: name -> classes [B] int64, -1 where withheld.
        controls: name -> [B]; none of them, or all that the sampler has.
    """

    noise: KeyedRandom
    labels: Mapping[str, Tensor]
    controls: Mapping[str, Tensor] = field(factory=dict)


class Step:
    """B sessions of a model on their device, and what moves them on.

    A group is the k rows that end with the first row of a chunk. `heard` absorbs one, given its input, and draws the
    chunk's first step; `alone` absorbs the row after, without input, and draws the next. Rows before the beginning of a
    session lie at positions below 0, where nothing sees them.

    Attributes:
        state: what the backbone remembers, of the G variants of each session.
        start: [G * B, K, De], how the sessions' labels look; None for a model without labels.
        noise: [B, K], the keys of their randomness.
        controls: name -> [B], what the sampler is told session by session.
        steps: [B, K, k + K - 1], what the last steps put out: CONDITION before the beginning.
        rows: G * B.
        told: name of a timeline -> [G * B, k, N], what is told of the rows of a group; of a row alone the last is.
        heard: x [G * B, k, E], the input of a group -> frames [B, K, k], complete if the group is a whole chunk.
        alone: -> frames [B, K, k], complete once all steps of the chunk are there.
    """

    def __init__(
        self,
        model: Model,
        sampler: CausalSampler,
        guidance: Guidance,
        *,
        window: int,
        sessions: Sessions,
        runtime: Runtime,
    ):
        """Compiles where the runtime says so; `begin` comes after it. Raises UserError where it cannot."""
        self.model, self.sampler, self.guidance, self.layout = model, sampler, guidance, model.layout
        k, levels = self.layout.clock.k, self.layout.codebooks
        batch, device = len(sessions.noise.key), model.table.weight.device
        self.rows = batch * len(guidance.variants)
        self.noise = KeyedRandom(sessions.noise.key.clone())
        self.controls = {name: dial.clone() for name, dial in sessions.controls.items()}
        self.start = model.start(guidance.spread_labels(sessions.labels))
        pinned = range(self.layout.start, self.layout.start + 1)
        self.state = model.backbone.new_state(self.rows, window, chunk=k, pinned=pinned, dtype=runtime.cache_type)
        self.steps = torch.full((batch, levels, k + levels - 1), CONDITION, device=device)
        self.told = {
            name: model.table.weight.new_zeros(self.rows, k, KINDS[name].width) for name in model.conditions.timelines
        }
        self.heard: Callable[[Tensor], Tensor] = self._prefill
        self.alone: Callable[[], Tensor] = self._decode
        if runtime.compiles(device):
            self._compile()

    def begin(self, rows: Tensor, sessions: Sessions | None = None) -> None:
        """New sessions in the rows of the bool mask [B]: those that `sessions` has there, or the same again."""
        anew = self.guidance.repeat(rows)
        self.state.reset(anew)
        self.state.rollback(torch.where(anew, -self.blanks, self.state.position))
        self.steps.masked_fill_(rows[:, None, None], CONDITION)
        if sessions is None:
            return
        self.noise.key.copy_(torch.where(rows[:, None], sessions.noise.key, self.noise.key))
        for name, dial in self.controls.items():
            dial.copy_(torch.where(rows, sessions.controls[name], dial))
        start = self.model.start(self.guidance.spread_labels(sessions.labels))
        if self.start is not None and start is not None:
            self.start.copy_(torch.where(anew[:, None, None], start, self.start))

    @property
    def blanks(self) -> int:
        """Rows before the first that fill up its group."""
        return -(self.layout.start + 1) % self.layout.clock.k

    def overrule(self, codes: Tensor) -> Tensor:
        """Put codes [B, K, P], where there is one for it, in the place of what the last step put out -> frames."""
        frame = self.layout.frame(self.state.position[: len(codes)] - 1 - self.layout.start)
        given = codes.gather(2, frame.clamp(0, codes.shape[2] - 1)[..., None])[..., 0]
        there = (frame >= 0) & (frame < codes.shape[2])
        self.steps[:, :, -1] = torch.where(there, given, self.steps[:, :, -1])
        return self.layout.undelay(self.steps)

    def tell(self, values: Mapping[str, Tensor]) -> None:
        """Name -> [B, S, N]: what is told of the last S rows of a group, or of the row alone that comes next."""
        for name, told in self.guidance.spread_timelines(values).items():
            self.told[name][:, -told.shape[1] :] = told.to(self.told[name])

    def rewind(self) -> None:
        """Forget the rows without input: they are absorbed again together with their input."""
        if rows := self.layout.clock.k - 1:
            self.state.rollback(self.state.position - rows)

    def _prefill(self, x: Tensor) -> Tensor:
        k = self.layout.clock.k
        return self._append(self._pick(self._row(x, self.steps[:, :, -k:])))

    def _decode(self) -> Tensor:
        return self._append(self._pick(self._row(None, self.steps[:, :, -1:])))

    def _row(self, x: Tensor | None, before: Tensor) -> Tensor:
        """Rows [G * B, S, E] or none after `before` [B, K, S] was put out -> logits of the last one [B, K, C]."""
        number = torch.arange(before.shape[2], device=before.device)
        step = self.state.position[:, None] + number - self.layout.start
        held = self.layout.tokens_in(step[:, None], self.guidance.repeat(before))
        told = self.model.timeline_embedding(
            {name: values[:, -before.shape[2] :] for name, values in self.told.items()}
        )
        h = self.model.hidden(x, held, self.start, self.state, told)
        return self.guidance.combine(self.model.logits(h[:, -1:])[:, :, 0, self.model.vocabulary.first_code :])

    def _pick(self, logits: Tensor) -> Tensor:
        """What the step of the last absorbed row puts out [B, K]: codes, CONDITION where level q has no frame yet."""
        frame = self.layout.frame(self.state.position[: len(logits)] - 1 - self.layout.start)
        picked = self.sampler.pick(logits, self.noise.fold(frame), **self.controls)
        return torch.where(frame < 0, CONDITION, picked)

    def _append(self, picked: Tensor) -> Tensor:
        """What a step put out [B, K] -> the frames [B, K, k] that the last k steps complete."""
        self.steps.copy_(torch.cat([self.steps[:, :, 1:], picked[..., None]], dim=2))
        return self.layout.undelay(self.steps)

    def _compile(self) -> None:
        """Make the graphs, by playing to silence."""
        x = self.model.table.weight.new_zeros(self.rows, self.layout.clock.k, self.model.space.latent_dim)
        self.heard = captured_step(self._prefill, x)
        if self.layout.clock.k > 1:
            self.alone = captured_step(self._decode)
