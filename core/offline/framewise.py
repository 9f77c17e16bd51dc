"""Inference of a masked model: one position a frame, all frames visible to each other, unknown codes decoded
iteratively.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from accomp.core.interfaces import MaskedSampler
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.masking import Choice, apart
from accomp.core.model.model import Model
from accomp.core.model.tokens import MASK
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.graphs import captured_step
from accomp.core.types import AttentionPattern


def hidden(
    model: Model,
    x: Tensor,
    tokens_in: Tensor,
    labels: Mapping[str, Tensor],
    valid: Tensor | None = None,
    timelines: Mapping[str, Tensor] = MappingProxyType({}),
    sight: AttentionPattern | None = None,
) -> Tensor:
    """x [B, T, E] and codes [B, K, T], MASK where unknown -> the backbone's output at each frame [B, T, D].

    Embeddings of labels and timelines are added to every frame, and every frame attends to all others (arXiv
    2312.08723, section 2.1), or to those that are `valid` [B, T]; `sight`: that of `valid`, if it was made before.
    """
    e = model.embed(tokens_in, timelines=model.timeline_embedding(timelines))
    h = model.fuser.fuse(x, e, model.label_embedding(labels))
    if sight is None and valid is not None:
        sight = whole_clip(valid)
    return model.backbone(h, causal=False) if sight is None else model.backbone(h, sight=sight)


def whole_clip(valid: Tensor) -> AttentionPattern:
    """Sight of clips whose frames are `valid` [B, T]: every frame attends to those that are, and to itself."""
    frame = torch.arange(valid.shape[1], device=valid.device)
    return AttentionPattern(frame.expand(len(valid), -1), lambda b, i, j: valid[b, j] | (i == j))


def joined(x: Tensor) -> bool:
    """Whether a forward of x and the choice after it are compiled together: on a GPU, where launches are the cost."""
    return x.is_cuda


class Framewise:
    """Masked decoding of clips of one shape.

    Each forward is one batch of all variants of the guidance, and one level's head. Compiled, it is one graph a level,
    made at the first clip of its shape; on a GPU with the choice of codes after it, which would be dozens of kernels.
    """

    def __init__(self, model: Model, guidance: Guidance = UNGUIDED, runtime: Runtime = EAGER):
        self._model, self._guidance, self._runtime = model, guidance, runtime
        self._clips: dict[torch.Size, _Clips] = {}

    @property
    def forwards(self) -> int:
        """Number of forwards of clips of the last shape."""
        return sum(clips.forwards for clips in self._clips.values())

    @torch.inference_mode()
    def fill(
        self,
        sampler: MaskedSampler,
        x: Tensor,
        known: Tensor,
        *,
        labels: Mapping[str, Tensor],
        noise: KeyedRandom,
        timelines: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Tensor:
        """Decode the stem of whole clips x [B, T, E] that begins with the codes `known` [B, K, P] -> codes [B, K, T].

        labels: name -> classes [B], -1 where withheld. noise: a key for each row and level [B, K]. timelines: name ->
        [B, T, N]. Raises UserError where it cannot be compiled.
        """
        x, labels = self._guidance.spread(x, labels)
        rows = self._guidance.spread_timelines(timelines)
        clips = self._clips.get(x.shape)
        if clips is None:
            clips = _Clips(ClipInputs(self._model, self._guidance, x, labels, rows), self._runtime)
            self._clips = {x.shape: clips}  # of one shape only
        clips.inputs.set(x, labels, rows)
        batch, levels, done = known.shape
        canvas = torch.cat([known, known.new_full((batch, levels, x.shape[1] - done), MASK)], dim=2)
        return sampler.fill(clips, canvas, canvas == MASK, noise)


class ClipInputs:
    """What the forwards of some clips read: the model, latents x [G * B, T, E], labels, timelines."""

    def __init__(
        self,
        model: Model,
        guidance: Guidance,
        x: Tensor,
        labels: Mapping[str, Tensor],
        timelines: Mapping[str, Tensor],
    ):
        self.model, self.guidance, self.x = model, guidance, x.clone()
        self.timelines = {name: values.clone() for name, values in timelines.items()}
        self.labels = {name: classes.clone() for name, classes in labels.items()}

    def set(self, x: Tensor, labels: Mapping[str, Tensor], timelines: Mapping[str, Tensor]) -> None:
        """Replace the clips by others of the same shape."""
        self.x.copy_(x)
        for name, values in timelines.items():
            self.timelines[name].copy_(values)
        for name, classes in labels.items():
            self.labels[name].copy_(classes)


class _Clips:
    """The forwards of clips of one shape, as samplers call them (core.model.masking.TakesSteps).

    Attributes:
        forwards: number of those so far.
    """

    def __init__(self, inputs: ClipInputs, runtime: Runtime):
        self.inputs, self.forwards = inputs, 0
        self._compiled = runtime.compiles(inputs.x.device)
        self._graphs: dict[int | Choice, Callable[..., Tensor]] = {}

    def __call__(self, canvas: Tensor, level: int) -> Tensor:
        """canvas [B, K, T], MASK where unknown -> the guided logits of a level [B, T, C]."""
        self.forwards += 1
        if level not in self._graphs:
            logits = LevelForward(self.inputs, level).logits
            self._graphs[level] = captured_step(logits, canvas.clone()) if self._compiled else logits
        return self._graphs[level](canvas)

    def step(self, choose: Choice) -> Callable[..., Tensor]:
        """Return a forward and the choice after it: one graph where they are compiled for a GPU."""
        if not self._compiled or not joined(self.inputs.x):
            return apart(self, choose)

        def step(canvas: Tensor, *given: Tensor) -> Tensor:
            self.forwards += 1
            if choose not in self._graphs:
                example = [tensor.clone() for tensor in (canvas, *given)]
                self._graphs[choose] = captured_step(LevelForward(self.inputs, choose.level, choose).chosen, *example)
            return self._graphs[choose](canvas, *given)

        return step


class LevelForward:
    """The forward of one level, and the choice of codes after it."""

    def __init__(self, inputs: ClipInputs, level: int, choose: Choice | None = None):
        self.inputs, self.level, self.choose = inputs, level, choose

    def logits(self, canvas: Tensor) -> Tensor:
        """canvas [B, K, T] -> [B, T, C]."""
        given = self.inputs
        h = hidden(given.model, given.x, given.guidance.repeat(canvas), given.labels, timelines=given.timelines)
        return given.guidance.combine(given.model.level_logits(h, self.level))

    def chosen(self, canvas: Tensor, *given: Tensor) -> Tensor:
        """canvas [B, K, T], the other arguments of the choice -> its result [2, B, T]."""
        assert self.choose is not None
        return self.choose(self.logits(canvas), canvas, *given)
