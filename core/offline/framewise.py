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


class Framewise:
    """Masked decoding of clips of one shape.

    Each forward is one batch of all variants of the guidance, and one level's head. Compiled, it is one graph a level,
    made at the first clip of its shape.
    """

    def __init__(self, model: Model, guidance: Guidance = UNGUIDED, runtime: Runtime = EAGER):
        self._model, self._guidance, self._runtime = model, guidance, runtime
        self._clips: dict[torch.Size, _Clips] = {}

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
            new = _Clips(self._model, self._guidance, x, labels, rows, self._runtime)
            self._clips = {x.shape: new}  # of one shape only
            clips = self._clips[x.shape]
        clips.begin(x, labels, rows)
        batch, levels, done = known.shape
        canvas = torch.cat([known, known.new_full((batch, levels, x.shape[1] - done), MASK)], dim=2)
        return sampler.fill(clips.predict, canvas, canvas == MASK, noise)


class _Clips:
    """Input buffers of the forwards of some clips: latents x [G * B, T, E], labels, timelines."""

    def __init__(
        self,
        model: Model,
        guidance: Guidance,
        x: Tensor,
        labels: Mapping[str, Tensor],
        timelines: Mapping[str, Tensor],
        runtime: Runtime,
    ):
        self.model, self.guidance, self.x = model, guidance, x.clone()
        self.timelines = {name: values.clone() for name, values in timelines.items()}
        self.labels = {name: classes.clone() for name, classes in labels.items()}
        levels = range(model.space.codebooks)
        self._forwards: list[Callable[[Tensor], Tensor]] = [_Level(self, level).logits for level in levels]
        if runtime.compiles(x.device):
            batch = len(x) // len(guidance.variants)
            canvas = torch.full((batch, len(levels), x.shape[1]), MASK, device=x.device)
            self._forwards = [captured_step(forward, canvas) for forward in self._forwards]

    def begin(self, x: Tensor, labels: Mapping[str, Tensor], timelines: Mapping[str, Tensor]) -> None:
        """Replace the clips by others of the same shape."""
        self.x.copy_(x)
        for name, values in timelines.items():
            self.timelines[name].copy_(values)
        for name, classes in labels.items():
            self.labels[name].copy_(classes)

    def predict(self, canvas: Tensor, level: int) -> Tensor:
        """canvas [B, K, T], MASK where unknown -> the guided logits of a level [B, T, C]."""
        return self._forwards[level](canvas)


class _Level:
    """The forward of one level."""

    def __init__(self, clips: _Clips, level: int):
        self.clips, self.level = clips, level

    def logits(self, canvas: Tensor) -> Tensor:
        """canvas [B, K, T] -> [B, T, C]."""
        clips = self.clips
        h = hidden(clips.model, clips.x, clips.guidance.repeat(canvas), clips.labels, timelines=clips.timelines)
        return clips.guidance.combine(clips.model.level_logits(h, self.level))
