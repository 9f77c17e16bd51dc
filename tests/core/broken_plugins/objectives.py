"""Broken plugins: objective."""

import attrs
import torch

from accomp.core.model.sequence import DelayPattern
from accomp.core.types import Loss
from accomp.plugins.objectives.ar import AR
from accomp.plugins.objectives.mlm import MLM
from accomp.plugins.objectives.prefix import Prefix
from accomp.plugins.objectives.prefix_offline import PrefixOffline
from broken_plugins.register import breaks


@breaks("objective", "is built by cls(config, space) and states decoding, chunked and clocked: decoding is 'greedy'")
class UnknownDecoding(AR):
    decoding = "greedy"


@breaks("objective", "is built by cls(config, space) and states decoding, chunked and clocked: raised AttributeError")
class NamesNoClock(AR):
    @property
    def clocked(self):
        raise AttributeError("clocked")


@breaks(
    "objective", "is built by cls(config, space) and states decoding, chunked and clocked: chunked, but not clocked"
)
class ChunksWithoutClock(PrefixOffline):
    chunked = True


_LOSS = "loss: a finite scalar with a gradient for every parameter of the model, detached parts"


@breaks("objective", f"{_LOSS}: total holds")
class NotANumber(AR):
    def loss(self, model, batch, clock, rng):
        return attrs.evolve(super().loss(model, batch, clock, rng), total=torch.tensor(torch.nan))


@breaks("objective", f"{_LOSS}: Clock(t_f=0")
class Indifferent(AR):
    def loss(self, model, batch, clock, rng):
        loss = super().loss(model, batch, clock, rng)
        return Loss(0 * loss.total, loss.parts)


@breaks("objective", f"{_LOSS}: part total")
class AttachedParts(AR):
    def loss(self, model, batch, clock, rng):
        loss = super().loss(model, batch, clock, rng)
        return Loss(loss.total, {"total": loss.total})


@breaks("objective", "where it counts tokens, the total is the mean of the parts level_q over so many of each")
class CountsOneLevelTwice(AR):
    def loss(self, model, batch, clock, rng):
        loss = super().loss(model, batch, clock, rng)
        return attrs.evolve(loss, counts=loss.counts * torch.tensor([2, 1, 1]))


@breaks("objective", "the same generator gives the same loss, with conditions dropped at random")
class OwnGenerator(AR):
    def __init__(self, config, space):
        super().__init__(config, space)
        self.rng = torch.Generator().manual_seed(0)

    def loss(self, model, batch, clock, rng):
        return super().loss(model, batch, clock, self.rng)


@breaks("objective", "targets outside `valid` do nothing")
class IgnoresValid(AR):
    def loss(self, model, batch, clock, rng):
        return super().loss(model, attrs.evolve(batch, valid=torch.ones_like(batch.valid)), clock, rng)


def _hears(levels, what):
    return f"K = {levels}: each step of the chunk from s hears x before s + t_f, and nothing later: Clock({what}"


@breaks("objective", _hears(1, "t_f=0, k=1): step 11, frame 11 of level 0, hears input frames [11]"))
@breaks("objective", _hears(3, "t_f=0, k=1): step 11, frame 11 of level 0, hears input frames [11]"))
class HearsOneFrameMore(AR):
    def loss(self, model, batch, clock, rng):
        return super().loss(model, attrs.evolve(batch, x=batch.x.roll(-1, 1)), clock, rng)


@breaks("objective", _hears(1, "t_f=0, k=1): step 11, frame 11 of level 0, ignores input frames [10]"))
class HearsOneFrameLess(AR):
    def loss(self, model, batch, clock, rng):
        return super().loss(model, attrs.evolve(batch, x=torch.nn.functional.pad(batch.x, (0, 0, 1, -1))), clock, rng)


@breaks("objective", _hears(1, "t_f=0, k=4): step 11, frame 11 of level 0, hears input frames [8, 9, 10]"))
@breaks("objective", _hears(3, "t_f=0, k=4): step 11, frame 11 of level 0, hears input frames [8, 9, 10]"))
class HearsDuringTheChunk(AR):
    chunked = True


class _Sees(Prefix):
    """Prefix, with another idea of what its rows see."""

    def loss(self, model, batch, clock, rng):
        backbone = model.backbone.forward
        try:
            model.backbone.forward = lambda h, sight: backbone(h, sight=self.seen(sight, clock))
            return super().loss(model, batch, clock, rng)
        finally:
            del model.backbone.forward


@breaks("objective", _hears(3, "t_f=0, k=4): step 11, frame 11 of level 0, hears input frames [8, 9"))
class HearsTheWholeClip(_Sees):
    def seen(self, sight, clock):
        return attrs.evolve(sight, visible=torch.ones_like(sight.visible).tril())


def _outputs(levels, what):
    return f"K = {levels}: a step sees what the steps before it put out, and nothing later: {what}"


@breaks(
    "objective", _outputs(1, "Clock(t_f=0, k=4): step 11, frame 11 of level 0, ignores (level, frame) [(0, 8), (0, 9)]")
)
@breaks(
    "objective", _outputs(3, "Clock(t_f=0, k=4): step 11, frame 11 of level 0, ignores (level, frame) [(0, 8), (0, 9)")
)
class ForgetsItsChunk(_Sees):
    def seen(self, sight, clock):
        clip = 24 + min(1, clock.input_padding)
        visible = sight.visible.clone()
        visible[:, :, clip:] &= torch.eye(visible.shape[1]).bool()[:, clip:]
        return attrs.evolve(sight, visible=visible)


class _ShowsTargets(DelayPattern):
    def inputs_of(self, y):
        return self.targets_of(y)


@breaks("objective", _outputs(1, "Clock(t_f=0, k=1): step 0, frame 0 of level 0, sees (level, frame) [(0, 0)]"))
class SeesTheAnswer(AR):
    def loss(self, model, batch, clock, rng):
        hidden = model.hidden
        try:
            answer = _ShowsTargets(clock, self.levels).inputs_of(batch.y.masked_fill(~batch.valid[:, None], -2))
            model.hidden = lambda x, tokens, *rest, **named: hidden(x, answer, *rest, **named)
            return super().loss(model, batch, clock, rng)
        finally:
            del model.hidden


@breaks(
    "objective", _outputs(3, "Clock(t_f=0, k=1): step 11, frame 11 of level 0, ignores (level, frame) [(0, 0), (0, 1)")
)
class BlindToThePast(AR):
    def loss(self, model, batch, clock, rng):
        hidden = model.hidden
        try:
            model.hidden = lambda x, tokens, *rest, **named: hidden(x, torch.full_like(tokens, -1), *rest, **named)
            return super().loss(model, batch, clock, rng)
        finally:
            del model.hidden


@breaks("objective", _outputs(3, "step 0, frame 0 of level 0, sees (level, frame) [(0, 0), (0, 1)"))
class SeesAllOutputs(PrefixOffline):
    def loss(self, model, batch, clock, rng):
        backbone = model.backbone.forward
        try:
            model.backbone.forward = lambda h, sight: backbone(h, causal=False)
            return super().loss(model, batch, clock, rng)
        finally:
            del model.backbone.forward


@breaks(
    "objective",
    "without a clock every prediction hears the whole input: step 0, frame 0 of level 0, ignores input frames [23]",
)
class MissesTheEnd(PrefixOffline):
    def loss(self, model, batch, clock, rng):
        return super().loss(model, attrs.evolve(batch, x=batch.x * (torch.arange(24) < 23)[:, None]), clock, rng)


@breaks("objective", "without a clock input outside `valid` is not heard: valid before 12, and input frames [12, 13")
class HearsPadding(MLM):
    def loss_of(self, model, batch, masked, sight=None):
        masked = masked & batch.valid[:, None]
        return super().loss_of(model, attrs.evolve(batch, valid=torch.ones_like(batch.valid)), masked)


class _Shows(MLM):
    """MLM, with other codes beside the targets."""

    def loss_of(self, model, batch, masked, sight=None):
        embed = model.embed
        try:
            model.embed = lambda held, timelines: embed(self.shown(held, batch.y), timelines=timelines)
            return super().loss_of(model, batch, masked)
        finally:
            del model.embed


@breaks("objective", "a code that is predicted is not seen, and any other is: predicted and seen: (level, frame) [(")
class ShowsTheMasked(_Shows):
    def shown(self, held, y):
        return y


@breaks(
    "objective", "a code that is predicted is not seen, and any other is: neither predicted nor seen: (level, frame)"
)
class HidesTheFirstLevel(_Shows):
    def shown(self, held, y):
        return torch.where(torch.arange(held.shape[1])[:, None] == 0, -2, held)
