"""One streaming step: fuse, backbone, heads, sampling. All state is read and written in place, so that it compiles.

Nothing in it depends on values or changes a shape: torch.compile makes one graph of `prefill`, and for k > 1 another of
`decode`, and recompiles neither. On a GPU each is also captured as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from attrs import field, frozen
from torch import Tensor

from accomp.core.console import warn
from accomp.core.errors import first_line
from accomp.core.interfaces import CausalSampler
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.ear import with_heard
from accomp.core.model.guidance import Guidance
from accomp.core.model.model import Model
from accomp.core.model.tokens import CONDITION
from accomp.core.music.timelines import KINDS
from accomp.core.spec.runtime import Runtime
from accomp.core.streaming.graphs import captured_step
from accomp.core.streaming.hearing import Hearing
from accomp.core.streaming.kv_cache import RingKVCache
from accomp.core.streaming.row_kernels import row_kernels


@frozen(eq=False)
class Sessions:
    """Random keys, labels and controls of B sessions.

    Attributes:
        noise: its keys are [B, K].
        labels: name -> classes [B] int64, -1 where withheld.
        controls: name -> [B]; empty, or all controls of the sampler.
    """

    noise: KeyedRandom
    labels: Mapping[str, Tensor]
    controls: Mapping[str, Tensor] = field(factory=dict)


class Step:
    """The device state of B sessions of a model, and the computation that advances it.

    A group is the k rows that end with the first row of a chunk. `prefill` absorbs one, given its input, and draws the
    chunk's first step; `decode` absorbs the next row, without input, and draws the next step. Rows before the start of
    a session have positions below 0, where no row attends to them.

    Attributes:
        state: the backbone's KV cache, of the G variants of each session.
        start: [G * B, K, De], embeddings of the sessions' labels; None for a model without labels.
        noise: [B, K], the keys of their random numbers.
        controls: name -> [B], per-session parameters of the sampler.
        steps: [B, K, k + K - 1], outputs of the last steps: CONDITION before the start.
        rows: G * B.
        timelines: name -> [G * B, k, N], values given for the rows of a group; the last one is that of a row alone.
        hearing: supplies what is not given; None for a model without an ear.
        prefill: x [G * B, k, E], the input of a group -> frames [B, K, k], complete if the group is a whole chunk.
        decode: -> frames [B, K, k], complete once all steps of the chunk are drawn.
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
        """Compile if the runtime says so; `begin` must follow. Raises UserError where it cannot."""
        self.model, self.sampler, self.guidance, self.layout = model, sampler, guidance, model.layout
        k, levels = self.layout.clock.k, self.layout.codebooks
        batch, device = len(sessions.noise.key), model.table.weight.device
        self.rows = batch * len(guidance.variants)
        self.noise = KeyedRandom(sessions.noise.key.clone())
        self.controls = {name: control.clone() for name, control in sessions.controls.items()}
        self.start = model.start(guidance.spread_labels(sessions.labels))
        pinned = range(self.layout.start, self.layout.start + 1)
        self.state = model.backbone.new_state(self.rows, window, chunk=k, pinned=pinned, dtype=runtime.cache_type)
        self.steps = torch.full((batch, levels, k + levels - 1), CONDITION, device=device)
        self.timelines = {
            name: model.table.weight.new_zeros(self.rows, k, KINDS[name].width) for name in model.conditions.timelines
        }
        self.hearing = None if model.ear is None else Hearing.of(model.ear, batch, k)
        self.prefill: Callable[[Tensor], Tensor] = self._prefill
        self.decode: Callable[[], Tensor] = self._decode
        compiled, self._insists = runtime.compiles(device), runtime.kernels == "triton"
        if isinstance(self.state, RingKVCache):
            heads = self.rows * self.state.keys[0].data.shape[1]
            self.state.kernels = row_kernels(runtime, device, compiled=compiled, heads=heads)
        if compiled:
            self._compile()

    def begin(self, rows: Tensor, sessions: Sessions | None = None) -> None:
        """Start new sessions in the rows of the bool mask [B]: those of `sessions` there, or the same again."""
        variants = self.guidance.repeat(rows)
        self.state.reset(variants)
        self.state.rollback(torch.where(variants, -self.blanks, self.state.position))
        self.steps.masked_fill_(rows[:, None, None], CONDITION)
        if self.hearing is not None:
            self.hearing.state.reset(rows)
        if sessions is None:
            return
        self.noise.key.copy_(torch.where(rows[:, None], sessions.noise.key, self.noise.key))
        for name, control in self.controls.items():
            control.copy_(torch.where(rows, sessions.controls[name], control))
        start = self.model.start(self.guidance.spread_labels(sessions.labels))
        if self.start is not None and start is not None:
            self.start.copy_(torch.where(variants[:, None, None], start, self.start))

    @property
    def blanks(self) -> int:
        """Number of rows before the first that fill its group."""
        return -(self.layout.start + 1) % self.layout.clock.k

    def overrule(self, codes: Tensor) -> Tensor:
        """Replace the last step's output by codes [B, K, P] where they have its frame -> frames [B, K, k]."""
        frame = self.layout.frame(self.state.position[: len(codes)] - 1 - self.layout.start)
        given = codes.gather(2, frame.clamp(0, codes.shape[2] - 1)[..., None])[..., 0]
        there = (frame >= 0) & (frame < codes.shape[2])
        self.steps[:, :, -1] = torch.where(there, given, self.steps[:, :, -1])
        return self.layout.undelay(self.steps)

    def set_timelines(self, values: Mapping[str, Tensor]) -> None:
        """Set timeline values, name -> [G * B, S, N], of the last S rows of a group, or of the next row alone."""
        for name, rows in values.items():
            self.timelines[name][:, -rows.shape[1] :] = rows.to(self.timelines[name])

    def set_hearing(self, rows: Tensor) -> None:
        """Set which rows of the next groups have input that a model with an ear hears, [B, k] bool."""
        assert self.hearing is not None, "only a model with an ear hears"
        self.hearing.rows.copy_(rows)

    def rewind(self) -> None:
        """Drop the rows without input from the cache; they are absorbed again together with their input."""
        if rows := self.layout.clock.k - 1:
            self.state.rollback(self.state.position - rows)

    def _prefill(self, x: Tensor) -> Tensor:
        k = self.layout.clock.k
        return self._append(self._pick(self._row(x, self.steps[:, :, -k:])))

    def _decode(self) -> Tensor:
        return self._append(self._pick(self._row(None, self.steps[:, :, -1:])))

    def _row(self, x: Tensor | None, before: Tensor) -> Tensor:
        """Compute rows [G * B, S, E] (or rows without input) after outputs `before` [B, K, S] -> last logits [B, K,
        C].
        """
        number = torch.arange(before.shape[2], device=before.device)
        step = self.state.position[:, None] + number - self.layout.start
        tokens_in = self.layout.tokens_in(step[:, None], self.guidance.repeat(before))
        given = {name: values[:, -before.shape[2] :] for name, values in self.timelines.items()}
        timelines = self.model.timeline_embedding(with_heard(given, self._heard(x)))
        h = self.model.hidden(x, tokens_in, self.start, self.state, timelines)
        return self.guidance.combine(self.model.logits(h[:, -1:])[:, :, 0, self.model.vocabulary.first_code :])

    def _heard(self, x: Tensor | None) -> dict[str, Tensor]:
        """What is heard in the rows [G * B, S, E], or of a row without input -> name -> [G * B, S, N]."""
        if self.hearing is None:
            return {}
        values = self.hearing.later() if x is None else self.hearing.hear(self.guidance.with_context(x))
        return self.guidance.spread_heard(values)

    def _pick(self, logits: Tensor) -> Tensor:
        """Sample the output of the last absorbed row [B, K]: codes, CONDITION where level q has no frame yet."""
        frame = self.layout.frame(self.state.position[: len(logits)] - 1 - self.layout.start)
        picked = self.sampler.pick(logits, self.noise.fold(frame), **self.controls)
        return torch.where(frame < 0, CONDITION, picked)

    def _append(self, picked: Tensor) -> Tensor:
        """Append a step's output [B, K] -> the frames [B, K, k] that the last k steps complete."""
        self.steps.copy_(torch.cat([self.steps[:, :, 1:], picked[..., None]], dim=2))
        return self.layout.undelay(self.steps)

    def _compile(self) -> None:
        """Make the graphs; if row kernels fail and no setting insists on them, with torch's, and with a warning."""
        try:
            self._capture()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the compiler, of Triton, and of what either calls
            if self._insists or not isinstance(self.state, RingKVCache) or self.state.kernels is None:
                raise
            why = first_line(error)
            warn(f"the step is compiled with torch's kernels, since those of runtime.kernels failed: {why}")
            self.state.kernels = None
            self._capture()

    def _capture(self) -> None:
        """Make the graphs by running on zeros."""
        x = self.model.table.weight.new_zeros(self.rows, self.layout.clock.k, self.model.space.latent_dim)
        prefill = captured_step(self._prefill, x)
        if self.layout.clock.k > 1:
            self.decode = captured_step(self._decode)
        self.prefill = prefill  # last: a step is known by what its object holds
