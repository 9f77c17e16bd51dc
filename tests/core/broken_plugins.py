"""Plugins that each break one promise, so that the conformance kit can be seen to notice.

A class is registered under the beginning of the property that it breaks; most are a good plugin and one wrong line.
"""

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import torch
from attrs import define, frozen
from fakes import Pulse

from accomp.core.errors import EmptyClip
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.sequence import DelayPattern
from accomp.core.music.annotations import NOTHING, Annotations, Beats
from accomp.core.streaming.kv_cache import RingKVCache
from accomp.core.types import Loss, Stem, Track
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.gated_add import GatedAdd
from accomp.plugins.models import pretrained  # noqa: F401  # a good model
from accomp.plugins.objectives.ar import AR
from accomp.plugins.objectives.mlm import MLM
from accomp.plugins.objectives.prefix import Prefix
from accomp.plugins.objectives.prefix_offline import PrefixOffline
from accomp.plugins.objectives.rectified_flow import RectifiedFlow
from accomp.plugins.samplers.euler import Euler
from accomp.plugins.samplers.top_k import TopK
from accomp.plugins.tokenizers.magnitude import Magnitude

BROKEN: list[tuple[str, str, str]] = []
"""(kind, class name, how the property that fails begins)."""


def breaks(kind: str, promise: str) -> Callable[[type], type]:
    """Registers the class or function below as one that breaks `promise`."""

    def register(cls: type) -> type:
        BROKEN.append((kind, cls.__name__, promise))
        cls.__doc__ = cls.__doc__ or "Breaks a promise."
        return cls

    return register


# ------------------------------------------------------------------------------------------------ all kinds


class _NoDocstring(TopK):
    pass


_NoDocstring.__doc__ = None
BROKEN.append(("sampler", "_NoDocstring", "has a docstring"))


@breaks("sampler", "Config is a frozen attrs class: NoConfig has no Config")
class NoConfig:
    decoding = "causal"


@breaks("sampler", "Config is a frozen attrs class: DictConfig.Config is not an attrs class")
class DictConfig(TopK):
    Config = dict


@breaks("sampler", "Config is a frozen attrs class: it can be changed")
class MutableConfig(TopK):
    @define
    class Config:
        k: int = 1
        temperature: float = 1.0


@breaks("sampler", "Config is a frozen attrs class: a key named 'plugin'")
class PluginKey(TopK):
    @frozen
    class Config:
        plugin: str = "x"
        k: int = 1
        temperature: float = 1.0


@breaks("sampler", "Config survives being written to JSON and read back")
class SetConfig(TopK):
    @frozen
    class Config:
        kept: frozenset = frozenset({1})
        k: int = 1
        temperature: float = 1.0


@breaks("sampler", "touches no global random generator, default dtype or sys.argv: changed torch's generator")
class GlobalTorch(TopK):
    def pick(self, logits, rng):
        torch.rand(())
        return super().pick(logits, rng)


@breaks("sampler", "touches no global random generator, default dtype or sys.argv: changed random's generator")
class GlobalRandom(TopK):
    def __init__(self, config, space):
        super().__init__(config, space)
        random.random()


@breaks("sampler", "touches no global random generator, default dtype or sys.argv: changed numpy's generator")
class GlobalNumpy(TopK):
    def __init__(self, config, space):
        super().__init__(config, space)
        np.random.rand()  # noqa: NPY002


@breaks("sampler", "touches no global random generator, default dtype or sys.argv: changed sys.argv")
class Arguments(TopK):
    def __init__(self, config, space):
        super().__init__(config, space)
        sys.argv.append("--more")


@breaks("fuser", "is built by cls(config, space, width)")
class TwoArguments(GatedAdd):
    def __init__(self, config, space):
        super().__init__(config, space, 32)


# ------------------------------------------------------------------------------------------------ fuser


@breaks("fuser", "is built by cls(config, space, width) and states embed_width: embed_width is None")
class NoWidth(GatedAdd):
    def __init__(self, config, space, width):
        super().__init__(config, space, width)
        self.embed_width = None


@breaks("fuser", "fuse: x [B, S, E], e [B, S, De] -> h [B, S, D]: h has shape [2, 6, 31], expected [2, 6, 32]")
class Narrow(GatedAdd):
    def fuse(self, x, e, c=None):
        return super().fuse(x, e, c)[..., 1:]


@breaks("fuser", "works without input: x = None: raised")
class NeedsInput(GatedAdd):
    def fuse(self, x, e, c=None):
        return super().fuse(x + 0, e, c)


@breaks("fuser", "works without output: e = None: raised")
class NeedsOutput(GatedAdd):
    def fuse(self, x, e, c=None):
        return super().fuse(x, e + 0, c)


@breaks("fuser", "labels c [B, 1, De] matter at every position, also without x, and without e: x and e: h ignores c")
class TellsTheFirst(GatedAdd):
    def fuse(self, x, e, c=None):
        told = super().fuse(x, e, c)
        return torch.cat([told[:, :1], super().fuse(x, e)[:, 1:]], 1) if told.shape[1] > 1 else told


@breaks("fuser", "labels c [B, 1, De] matter at every position, also without x, and without e: e = None: h ignores c")
class TellsTheOutput(GatedAdd):
    def fuse(self, x, e, c=None):
        return super().fuse(x, e, None if e is None else c)


@breaks("fuser", "is frame-local")
class Smears(GatedAdd):
    def fuse(self, x, e, c=None):
        h = super().fuse(x, e, c)
        return h + 0.1 * h.mean(1, keepdim=True)


@breaks("fuser", "is frame-local: a position depends on itself alone: position 0 of the first item")
class MixesItems(GatedAdd):
    def fuse(self, x, e, c=None):
        h = super().fuse(x, e, c)
        return h + 0.1 * h.mean(0, keepdim=True)


@breaks("fuser", "is frame-local: a position depends on itself alone: h ignores x")
class Deaf(GatedAdd):
    def fuse(self, x, e, c=None):
        return super().fuse(None if x is None else torch.zeros_like(x), e, c)


@breaks("fuser", "is frame-local: a position depends on itself alone: h ignores x without e")
class DeafAtTheEnds(GatedAdd):
    def fuse(self, x, e, c=None):
        return super().fuse(x if e is not None else torch.zeros_like(x), e, c)


@breaks("fuser", "every parameter gets a gradient, with or without x, e and c: none for unused")
class DeadFuser(GatedAdd):
    def __init__(self, config, space, width):
        super().__init__(config, space, width)
        self.unused = torch.nn.Parameter(torch.ones(1))


# ------------------------------------------------------------------------------------------------ backbone


class Small(Llama):
    """Good, and small."""

    @frozen
    class Config(Llama.Config):
        depth: int = 1
        heads: int = 2


@breaks("backbone", "is built by cls(config, space, width): a function is not a torch.nn.Module")
class MakesAFunction(Small):
    def __new__(cls, config, space, width):
        return lambda h: h


@breaks("backbone", "forward: h [B, S, D] -> [B, S, D]: the output is torch.float64")
class Doubles(Small):
    def forward(self, h, *, causal=True, state=None, sight=None):
        return super().forward(h, causal=causal, state=state, sight=sight).double()


@breaks("backbone", "is causal by gradient, and hears the past: output 6 has a gradient from inputs [7,")
class SeesTheFuture(Small):
    def forward(self, h, *, causal=True, state=None, sight=None):
        return super().forward(h, causal=False if state is None else causal, state=state, sight=sight)


@breaks("backbone", "is causal by gradient, and hears the past: output 6 has no gradient from inputs [0, 1,")
class Forgetful(Small):
    def forward(self, h, *, causal=True, state=None, sight=None):
        super().forward(h, causal=causal, state=state, sight=sight)
        return h + 0


@breaks("backbone", "causal=False: every position sees every other (or is refused with a UserError)")
class AlwaysCausal(Small):
    def forward(self, h, *, causal=True, state=None, sight=None):
        return super().forward(h, causal=True, state=state, sight=sight)


@breaks("backbone", "every parameter gets a gradient: none for unused")
class DeadBackbone(Small):
    def __init__(self, config, space, width):
        super().__init__(config, space, width)
        self.unused = torch.nn.Parameter(torch.ones(1))


class _Seeing(Small):
    """Small, with another idea of its sight."""

    def seen(self, sight):
        raise NotImplementedError

    def forward(self, h, *, causal=True, state=None, sight=None):
        return super().forward(h, causal=causal, state=state, sight=None if sight is None else self.seen(sight))


@breaks("backbone", "a sight that spells causal, or whole, is causal=True, or False (or refused: a UserError)")
class SeenFromTheOtherSide(_Seeing):
    def seen(self, sight):
        return sight._replace(visible=sight.visible.mT)


@breaks("backbone", "a row depends on the rows that it sees and on what those see, and on no other: output 0 of item")
class OneMaskForAll(_Seeing):
    def seen(self, sight):
        return sight._replace(visible=sight.visible[:1])


@breaks("backbone", "a row depends on the rows that it sees and on what those see, and on no other: output")
class LooksNowhere(_Seeing):
    def seen(self, sight):
        return sight._replace(visible=sight.visible & sight.visible.mT)


@breaks("backbone", "rows in another order, under a sight in that order, are the same rows: places are its own")
class CountsRows(_Seeing):
    def seen(self, sight):
        return sight._replace(position=torch.arange(sight.position.shape[1])[None])


class _Stateful(Small):
    """Small, with a ring of another class."""

    ring: type = RingKVCache

    def new_state(self, batch, window, *, chunk=1, pinned=range(0), dtype=None):
        state = super().new_state(batch, window, chunk=chunk, pinned=pinned, dtype=dtype)
        state.__class__ = self.ring
        return state


class _Standing(RingKVCache):
    def advance(self, length):
        self.position.add_(length - 1)


@breaks("backbone", "stepwise equals full, and the state counts positions")
class DoesNotCount(_Stateful):
    ring = _Standing


class _Stuck(RingKVCache):
    def rollback(self, position):
        pass


class _OneByOne(RingKVCache):
    def span(self, length, causal=True):
        span = super().span(length, causal)
        return attrs.evolve(
            span, visible=span.visible & (torch.arange(span.visible.shape[2]) <= span.slot[:, :1, None])
        )


@breaks("backbone", "several positions a call equal one position a call")
class HidesTheCall(_Stateful):
    ring = _OneByOne


@breaks("backbone", "rollback and replay equal never having gone ahead")
class NoRollback(_Stateful):
    ring = _Stuck


class _Remembering(RingKVCache):
    def span(self, length, causal=True):
        span = super().span(length, causal)
        return span._replace(hidden=torch.zeros_like(span.hidden))


@breaks("backbone", "what lies before the beginning, below position 0, is seen by nothing")
class SeesBeforeTheBeginning(_Stateful):
    ring = _Remembering


class _Together(RingKVCache):
    def rollback(self, position):
        self.position.copy_(position.min())


@breaks("backbone", "each row may be rolled back to a position of its own")
class RollsAllBack(_Stateful):
    ring = _Together


class _Washing(RingKVCache):
    def reset(self, rows):
        self.position.zero_()


@breaks("backbone", "reset of one row leaves the others, and starts that row anew: state.position is [0, 0, 0]")
class ResetsAll(_Stateful):
    ring = _Washing


class _Sloppy(RingKVCache):
    def reset(self, rows):
        pass


@breaks("backbone", "reset of one row leaves the others, and starts that row anew: state.position is [6, 6, 6]")
class ResetsNone(_Stateful):
    ring = _Sloppy


class _Hoarding(RingKVCache):
    def advance(self, length):
        super().advance(length)
        self.log = [*getattr(self, "log", []), self.position.clone()]


@breaks("backbone", "memory is constant however long a session lasts: the state grew")
class Hoards(_Stateful):
    ring = _Hoarding


@breaks("backbone", "beyond the window the past is forgotten, but for pinned positions: the last output after")
class NeverForgets(Small):
    def new_state(self, batch, window, *, chunk=1, pinned=range(0), dtype=None):
        return super().new_state(batch, window + 100, chunk=chunk, pinned=pinned, dtype=dtype)


@breaks(
    "backbone", "beyond the window the past is forgotten, but for pinned positions: the last output does not depend"
)
class ForgetsPinned(Small):
    def new_state(self, batch, window, *, chunk=1, pinned=range(0), dtype=None):
        return super().new_state(batch, window, chunk=chunk, dtype=dtype)


class _TooSmall(RingKVCache):
    def span(self, length, causal=True):
        span = super().span(length, causal)
        ring = self.capacity - self.chunk + 1  # as if the ring held the window alone
        span.slot.remainder_(ring)
        return span


@breaks("backbone", "several positions a call equal one a call beyond the window, with rollback")
class SmallRing(_Stateful):
    ring = _TooSmall


@breaks(
    "backbone", "with a state and causal=False the rows of a call see what its last row sees (or refused: a UserError)"
)
class InLineAlways(Small):
    def forward(self, h, *, causal=True, state=None, sight=None):
        return super().forward(h, causal=causal or state is not None, state=state, sight=sight)


# ------------------------------------------------------------------------------------------------ objective


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
        return sight._replace(visible=torch.ones_like(sight.visible).tril())


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
        return sight._replace(visible=visible)


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


# ------------------------------------------------------------------------------------------------ causal sampler


@breaks("sampler", 'is built by cls(config, space) and states decoding, "causal" or "masked"')
class NoDecoding(TopK):
    decoding = None


@breaks("sampler", "pick: logits [B, K, C] -> codes [B, K] int64 in [0, C): codes is torch.int32")
class Int32(TopK):
    def pick(self, logits, rng):
        return super().pick(logits, rng).int()


@breaks("sampler", "pick: logits [B, K, C] -> codes [B, K] int64 in [0, C): codes leave [0, 20)")
class OffByOne(TopK):
    def pick(self, logits, rng):
        return super().pick(logits, rng) + 1


@breaks("sampler", "the same noise gives the same codes")
class Counts(TopK):
    calls = 0

    def pick(self, logits, rng):
        self.calls += 1
        return (super().pick(logits, rng) + self.calls) % logits.shape[-1]


@breaks("sampler", "a row does not depend on the others of its batch")
class Normalises(TopK):
    def pick(self, logits, rng):
        return super().pick((logits - logits.mean(0)) / 0.1, rng)


@breaks("sampler", "does not change its logits")
class InPlace(TopK):
    def pick(self, logits, rng):
        return super().pick(logits.mul_(2.0), rng)


@breaks("sampler", "a code that is certain is picked")
class Uniform(TopK):
    def pick(self, logits, rng):
        return rng.gumbel(logits.shape[-1]).argmax(-1)


@breaks("sampler", "runs inside a compiled step: one graph, no break")
class Branches(TopK):
    def pick(self, logits, rng):
        return logits.argmax(-1) if logits.max().item() < 0 else super().pick(logits, rng)


# ------------------------------------------------------------------------------------------------ masked sampler


class AtOnce:
    """A good masked sampler: each level in one step."""

    decoding = "masked"

    @frozen
    class Config:
        pass

    def __init__(self, config, space):
        pass

    def fill(self, predict, canvas, todo, rng):
        canvas = canvas.masked_fill(todo, -2)
        for level in range(canvas.shape[1]):
            if todo[:, level].any():
                codes = self.draw(predict(canvas, level), KeyedRandom(rng.key[:, level, None]).fold(level))
                canvas[:, level] = torch.where(todo[:, level], codes, canvas[:, level])
        return canvas

    def draw(self, logits, rng):
        frames = torch.arange(logits.shape[1])
        return (logits + rng.fold(frames).gumbel(logits.shape[2])).argmax(-1)


@breaks("sampler", "fill: canvas [B, K, T], todo [B, K, T] -> codes [B, K, T] int64 in [0, C): codes leave")
class LeavesAMask(AtOnce):
    def draw(self, logits, rng):
        return torch.full_like(logits[..., 0], -1).long()


@breaks("sampler", "ends: at most T predictions for a level, none where nothing is to do: asked for more")
class NeverEnds(AtOnce):
    def fill(self, predict, canvas, todo, rng):
        while True:
            canvas = super().fill(predict, canvas, todo, rng)


@breaks("sampler", "ends: at most T predictions for a level, none where nothing is to do: [12, 1, 1] predictions")
class AsksTwelveTimes(AtOnce):
    def fill(self, predict, canvas, todo, rng):
        for _ in range(11 * bool(todo.any())):
            predict(canvas.masked_fill(todo, -2), 0)
        return super().fill(predict, canvas, todo, rng)


@breaks("sampler", "ends: at most T predictions for a level, none where nothing is to do: asked about levels [1, 0, 2]")
class AsksAboutEveryLevel(AtOnce):
    def fill(self, predict, canvas, todo, rng):
        for level in range(3):
            if not todo[:, level].any():
                predict(canvas.masked_fill(todo, -2), level)
        return super().fill(predict, canvas, todo, rng)


class _Shows(AtOnce):
    """Shows the model another canvas than there is."""

    def fill(self, predict, canvas, todo, rng):
        return super().fill(lambda now, level: predict(self.shown(now, canvas, todo), level), canvas, todo, rng)


@breaks("sampler", "predict gets one level, an int, and a negative code exactly where none is known: prediction 0")
class ShowsTheOldCodes(_Shows):
    def shown(self, now, canvas, todo):
        return canvas


@breaks("sampler", "predict gets one level, an int, and a negative code exactly where none is known: prediction 0")
class HidesWhatIsKnown(_Shows):
    def shown(self, now, canvas, todo):
        return torch.full_like(canvas, -2)


@breaks("sampler", "predict gets one level, an int, and a negative code exactly where none is known: level tensor")
class AsksWithATensor(AtOnce):
    def fill(self, predict, canvas, todo, rng):
        return super().fill(lambda now, level: predict(now, torch.tensor(level)), canvas, todo, rng)


@breaks("sampler", "keeps what was not to do")
class Repaints(AtOnce):
    def fill(self, predict, canvas, todo, rng):
        return super().fill(predict, canvas, torch.ones_like(todo), rng)


@breaks("sampler", "a code that is certain is filled in")
class PaintsUniformly(AtOnce):
    def draw(self, logits, rng):
        return super().draw(torch.zeros_like(logits), rng)


@breaks("sampler", "the same noise gives the same codes")
class CountsFills(AtOnce):
    calls = 0

    def draw(self, logits, rng):
        self.calls += 1
        return (super().draw(logits, rng) + self.calls) % 20


@breaks("sampler", "a row does not depend on the others of its batch")
class OneNoiseForAll(AtOnce):
    def draw(self, logits, rng):
        return super().draw(logits, KeyedRandom(rng.key.sum(0, keepdim=True)))


@breaks("sampler", "changes neither canvas, todo nor logits: canvas changed")
class PaintsOver(AtOnce):
    def fill(self, predict, canvas, todo, rng):
        return canvas.copy_(super().fill(predict, canvas, todo, rng))


@breaks("sampler", "changes neither canvas, todo nor logits: logits changed")
class TempersInPlace(AtOnce):
    def draw(self, logits, rng):
        return super().draw(logits.mul_(2.0), rng)


# ------------------------------------------------------------------------------------------------ metric


class Likeness:
    """A good metric: mean squared difference."""

    best = {"difference": 0.0}  # noqa: RUF012
    sample_rate = 8000

    @frozen
    class Config:
        pass

    def __init__(self, config, space):
        self.takes = {}

    def fresh(self):
        return type(self)(self.Config(), None)

    def update(self, take):
        if not take.stem.any():
            raise EmptyClip("a silent stem")
        self.takes[take.id] = {"difference": float(np.mean((take.context - take.stem) ** 2))}

    def result(self, takes=None):
        chosen = list(self.takes) if takes is None else takes
        if not chosen:
            raise ValueError("no take was given")
        return {"difference": float(np.mean([self.takes[id]["difference"] for id in chosen]))}

    def per_take(self):
        return self.takes


class Spread(Likeness):
    """A good metric of sets: it judges silence, needs losses, and wants two takes at least."""

    needs = frozenset({"losses"})
    best = {}  # noqa: RUF012

    def update(self, take):
        self.takes[take.id] = float(take.losses["own"].total)

    def result(self, takes=None):
        values = [self.takes[id] for id in (self.takes if takes is None else takes)]
        if len(values) < 2:
            raise ValueError("two takes at least")
        return {"spread": float(np.std(values))}

    def per_take(self):
        return {id: {} for id in self.takes}


@breaks("metric", "is built by cls(config, space) and states sample_rate and best: sample_rate is 0")
class NoRate(Likeness):
    sample_rate = 0


@breaks("metric", "no take at all is a ValueError that says so: gave {'difference': 0.0}")
class ZeroOfNothing(Likeness):
    def result(self, takes=None):
        return super().result(takes) if self.takes else {"difference": 0.0}


@breaks("metric", "no take at all is a ValueError that says so: raised ZeroDivisionError")
class DividesByZero(Likeness):
    def result(self, takes=None):
        values = [self.takes[id]["difference"] for id in (self.takes if takes is None else takes)]
        return {"difference": sum(values) / len(values)}


@breaks("metric", "update(take) and result() -> finite numbers by name: result() is {'difference': nan}")
class NanResult(Likeness):
    def result(self, takes=None):
        return {key: value * float("nan") for key, value in super().result(takes).items()}


@breaks("metric", "update(take) and result() -> finite numbers by name: update changed")
class Scales(Likeness):
    def update(self, take):
        take.stem[:] *= 0.5
        super().update(take)


@breaks("metric", "per_take: take id -> finite numbers, {} in metrics of sets: ids []")
class NoTakes(Likeness):
    def per_take(self):
        return {}


@breaks("metric", "fresh() holds no take, and leaves the takes of the one it came from: gave {'difference'")
class SharesTakes(Likeness):
    def fresh(self):
        other = super().fresh()
        other.takes = self.takes
        return other


@breaks("metric", "the order of takes does not matter")
class LastCounts(Likeness):
    def result(self, takes=None):
        super().result(takes)
        return self.takes[(list(self.takes) if takes is None else takes)[-1]]


@breaks("metric", "result(takes) equals a metric that saw only these")
class Everything(Likeness):
    def result(self, takes=None):
        return super().result()


@breaks("metric", "result(takes) counts an id that comes twice twice")
class Once(Likeness):
    def result(self, takes=None):
        return super().result(takes and sorted(set(takes)))


@breaks("metric", "a silent stem is judged, or raises EmptyClip and counts nowhere: raised ValueError: too quiet")
class FailsOnSilence(Likeness):
    def update(self, take):
        if not take.stem.any():
            raise ValueError("too quiet")
        super().update(take)


@breaks("metric", "a silent stem is judged, or raises EmptyClip and counts nowhere: per_take() tells of ['early', 'on")
class CountsSilence(Likeness):
    def update(self, take):
        self.takes[take.id] = {"difference": float(np.mean((take.context - take.stem) ** 2))}
        super().update(take)


@breaks(
    "metric", "a silent stem is judged, or raises EmptyClip and counts nowhere: per_take() gives {'difference': nan}"
)
class NanOfSilence(Likeness):
    def update(self, take):
        share = np.float64(take.stem.std()) / take.stem.std() if take.stem.any() else float("nan")
        self.takes[take.id] = {"difference": float(share * np.mean((take.context - take.stem) ** 2))}


@breaks("metric", "a stem that is the context itself gives the stated best: {'difference': 0.0}, stated")
class WrongBest(Likeness):
    best = {"difference": 1.0}  # noqa: RUF012


@breaks("metric", "a stem that is the context itself gives the stated best: result() has no likeness")
class UnknownBest(Likeness):
    best = {"likeness": 1.0}  # noqa: RUF012


# ------------------------------------------------------------------------------------------------ embedder


class Loudness:
    """A good embedder: level and steepness of every second."""

    sample_rate = 8000
    fingerprint = "loudness 1"
    provenance = "root mean squares of a second"

    @frozen
    class Config:
        pass

    def __init__(self, config):
        pass

    def embed(self, audio):
        seconds = audio[: len(audio) // 8000 * 8000].reshape(-1, 8000)
        if not len(seconds):
            raise ValueError(f"{len(audio)} samples; a patch has 8000")
        return np.sqrt(np.stack([seconds**2, np.gradient(seconds, axis=1) ** 2], 1).mean(2)).astype(np.float32)


@breaks("embedder", "is built by cls(config) and states sample_rate, fingerprint and provenance: fingerprint, prov")
class Nameless(Loudness):
    fingerprint = ""


@breaks("embedder", "embed: audio [N] -> [n, D] float32: rows are float64")
class DoubleRows(Loudness):
    def embed(self, audio):
        return super().embed(audio).astype(float)


@breaks("embedder", "embed: audio [N] -> [n, D] float32: embed changed")
class ScalesSound(Loudness):
    def embed(self, audio):
        audio *= 0.5
        return super().embed(audio)


@breaks("embedder", "equal embedders give equal answers, and have one fingerprint: 'built ")
class CountedFingerprint(Loudness):
    built = 0

    def __init__(self, config):
        type(self).built += 1
        self.fingerprint = f"built {self.built}"


@breaks("embedder", "more sound gives more rows of the same width, other sound other rows: 4 rows")
class FourRows(Loudness):
    def embed(self, audio):
        return super().embed(audio)[:4]


@breaks("embedder", "more sound gives more rows of the same width, other sound other rows: noise and a chord")
class ToneDeaf(Loudness):
    def embed(self, audio):
        return np.ones_like(super().embed(audio))


@breaks("embedder", "digital silence has finite rows: rows hold NaN")
class Decibels(Loudness):
    def embed(self, audio):
        with np.errstate(divide="ignore"):
            return np.log10(super().embed(audio))


@breaks("embedder", "no sound at all is a ValueError that says so: gave")
class RowOfNothing(Loudness):
    def embed(self, audio):
        return super().embed(audio if len(audio) else np.zeros(8000, dtype=np.float32))


# ------------------------------------------------------------------------------------------------ followers


@breaks(
    "follower", "is built by cls(config, sample_rate) and states follows, fingerprint and provenance: follows is 'mood'"
)
class MoodFollower(Pulse):
    follows = "mood"


@breaks("follower", "known() is NOTHING at first, and after silence: Annotations(beats=Beats(times=(0.0, 0.5)")
class AlwaysCounting(Pulse):
    def known(self):
        return Annotations(Beats((0.0, 0.5)))


@breaks("follower", "begin() forgets; push takes audio [n] float32 and leaves it as it was: push changed its audio")
class LoudFollower(Pulse):
    def push(self, audio):
        audio *= 2
        super().push(audio)


@breaks("follower", "begin() forgets; push takes audio [n] float32 and leaves it as it was: Annotations")
class Slowing(Pulse):
    begun = 0

    def begin(self):
        super().begin()
        self.begun += 1

    def known(self):
        return Annotations(Beats((0.0, 0.5 * self.begun))) if self._loud else NOTHING


@breaks("follower", "known() tells what it follows, once there is a steady beat of chords")
class DeafFollower(Pulse):
    def push(self, audio):
        pass


@breaks("follower", "however the sound is cut, the same is known")
class Impatient(Pulse):
    def begin(self):
        self._loud, self._pushes = False, 0

    def push(self, audio):
        self._pushes += 1
        super().push(audio)

    def known(self):
        return Annotations(Beats((0.0, 0.5 / self._pushes))) if self._loud else NOTHING


# ------------------------------------------------------------------------------------------------ corpus


class Songs:
    """A good corpus: two splits of two songs, written when the kit asks for an example."""

    splits = ("train", "test")

    @frozen
    class Config:
        root: str

    @classmethod
    def example_config(cls, folder):
        from accomp.core.audio import io as audio

        for name in ("train0", "train1", "test0", "test1"):
            audio.write(folder / f"{name}.wav", np.zeros(800, dtype=np.float32), 8000)
        return cls.Config(str(folder))

    def __init__(self, config):
        from pathlib import Path

        self.root = Path(config.root)

    def tracks(self, split):
        from accomp.core.errors import DataError

        if split not in self.splits:
            raise DataError(f"no split {split}")
        return iter([self.track(split, n) for n in range(2)])

    def track(self, split, n):
        return Track(f"{split}{n}", {"piano": Stem(self.root / f"{split}{n}.wav", 0)})


@breaks("corpus", "is built by cls(config) and names its splits, once each")
class ListOfSplits(Songs):
    splits = ["train", "test"]  # noqa: RUF012


@breaks("corpus", "tracks(split) gives Track objects, every split at least one: train gave ['train0']")
class GivesNames(Songs):
    def track(self, split, n):
        return f"{split}{n}"


@breaks("corpus", "tracks(split) gives Track objects, every split at least one: test gave none")
class EmptySplit(Songs):
    def tracks(self, split):
        return iter([]) if split == "test" else super().tracks(split)


@breaks("corpus", "track ids are unique, within a split and across splits: twice: 0, 1")
class SameIds(Songs):
    def track(self, split, n):
        return attrs.evolve(super().track(split, n), id=str(n))


@breaks("corpus", "the order is the same each time")
class Shuffles(Songs):
    made: list = []  # noqa: RUF012

    def tracks(self, split):
        self.made.append(split)
        tracks = list(super().tracks(split))
        return iter(tracks[:: 1 if self.made.count(split) % 2 else -1])


@breaks(
    "corpus", "every stem can be read, and its instrument is one of the classes: raised DataError: no such audio file"
)
class MissingFile(Songs):
    def track(self, split, n):
        return Track(f"{split}{n}", {"piano": Stem(self.root / "elsewhere.wav", 0)})


@breaks(
    "corpus", "every stem can be read, and its instrument is one of the classes: stem piano of train0: instrument 18"
)
class UnknownInstrument(Songs):
    def track(self, split, n):
        return Track(f"{split}{n}", {"piano": Stem(self.root / f"{split}{n}.wav", 18)})


@breaks("corpus", "an unknown split is a DataError: gave 0 tracks")
class NothingUnknown(Songs):
    def tracks(self, split):
        return super().tracks(split) if split in self.splits else iter([])


# ------------------------------------------------------------------------------------------------ command


def good(folder: str) -> None:
    """Does nothing, well."""


@breaks("command", "has a docstring")
def _mute(folder: str) -> None: ...


_mute.__doc__ = None


@breaks("command", "is a function whose every parameter is annotated: no annotation on folder")
def bare(folder):
    pass


@breaks("command", "typer makes a command of it")
def untypable(folder: int | str) -> None:
    pass


# ------------------------------------------------------------------------------------------------ model


@breaks("model", "gives a folder: it gives 'here'")
def nowhere():
    return "here"


@breaks("model", "its card has a summary: summary is None")
def unknown():
    return Path(tempfile.mkdtemp())


@breaks("model", "its newest checkpoint loads, with the tokenizer it was trained with")
def untrained():
    folder = Path(tempfile.mkdtemp())
    (folder / "model_card.json").write_text('{"summary": "none"}')
    return folder


# ------------------------------------------------------------------------------------------------ tokenizer


class Codec(Magnitude):
    """Good, untrained and small."""

    @frozen(kw_only=True)
    class Config(Magnitude.Config):
        weights: str = "random"
        width: int = 16
        hidden: int = 16
        codebook_size: int = 64
        stay: float = 0.0
        encoder_blocks: int = 1
        decoder_blocks: int = 1


@breaks("tokenizer", "is built by cls(config) and states name, fingerprint and space: fingerprint is ''")
class NoFingerprint(Codec):
    def __init__(self, config):
        super().__init__(config)
        self.fingerprint = ""


@breaks("tokenizer", "is built by cls(config) and states name, fingerprint and space: two built alike")
class RandomFingerprint(Codec):
    def __init__(self, config):
        super().__init__(config)
        self.fingerprint = str(id(self))
        self.friend = object()


@breaks("tokenizer", "space_of(config) is the space, known without building: it is another")
class OtherSpace(Codec):
    @classmethod
    def space_of(cls, config):
        return attrs.evolve(super().space_of(config), lookahead=1)

    def __init__(self, config):
        super().__init__(config)
        self.space = attrs.evolve(self.space, lookahead=0)


@breaks("tokenizer", "encode: audio [B, N] -> codes [B, K, ceil(N / hop)] int64 in [0, C): codes of")
class RoundsDown(Codec):
    def encode(self, audio):
        return super().encode(audio)[:, :, : audio.shape[1] // self.space.hop]


@breaks("tokenizer", "encode: audio [B, N] -> codes [B, K, ceil(N / hop)] int64 in [0, C): codes leave")
class ShiftedCodes(Codec):
    def encode(self, audio):
        return super().encode(audio) + self.space.codebook_size // 2


@breaks("tokenizer", "encode: audio [B, N] -> codes [B, K, ceil(N / hop)] int64 in [0, C): a chord and another")
class Constant(Codec):
    def encode(self, audio):
        return super().encode(audio) * 0


@breaks("tokenizer", "embed: codes [B, K, T] -> latents [B, T, E], frame by frame: latents has shape")
class Transposed(Codec):
    def embed(self, codes):
        return super().embed(codes).mT


@breaks("tokenizer", "embed: codes [B, K, T] -> latents [B, T, E], frame by frame: latents of one frame alone")
class BlurredLatents(Codec):
    def embed(self, codes):
        latents = super().embed(codes)
        return latents + latents.mean(1, keepdim=True)


@breaks("tokenizer", "decode: codes [B, K, T] -> audio [B, T * hop]: audio has shape")
class ShortAudio(Codec):
    def decode(self, codes):
        return super().decode(codes)[:, 1:]


@breaks("tokenizer", "codes depend on no more future audio than `lookahead` states: audio changed from")
class LooksAhead(Codec):
    def encode(self, audio):
        return super().encode(audio.roll(-self.space.hop, 1))


@breaks("tokenizer", "audio depends on no more future codes than `delay` states")
class UnstatedDelay(Codec):
    def decode(self, codes):
        return super().decode(codes.roll(-1, 2))


class _Wrapped:
    """A stream around another, which does the work."""

    def __init__(self, inner):
        self.inner = inner

    def push(self, chunk):
        return self.inner.push(chunk)

    def flush(self):
        return self.inner.flush()

    def reset(self, rows):
        self.inner.reset(rows)


class _Loudest(_Wrapped):
    def push(self, chunk):
        return super().push(chunk / chunk.abs().amax().clamp(min=0.1) if chunk.numel() else chunk)


@breaks("tokenizer", "encoder stream: every split of the audio gives the offline codes: pushes of")
class NormalisesChunks(Codec):
    def encoder(self, batch=1):
        return _Loudest(super().encoder(batch))

    def encode(self, audio):
        return torch.cat([(stream := Codec.encoder(self, len(audio))).push(audio), stream.flush()], dim=2)


class _Late(_Wrapped):
    def __init__(self, inner):
        super().__init__(inner)
        self.kept = []

    def push(self, chunk):
        self.kept.append(chunk)
        return super().push(chunk[:, :0] if chunk.dim() == 2 else chunk[:, :, :0])

    def flush(self):
        whole = torch.cat(self.kept, dim=-1)
        return torch.cat([self.inner.push(whole), self.inner.flush()], dim=-1)


@breaks("tokenizer", "encoder stream: a frame comes as soon as its samples and the lookahead are there: 0 frames")
class LateCodes(Codec):
    def encoder(self, batch=1):
        return _Late(super().encoder(batch))

    def encode(self, audio):
        return torch.cat([(stream := Codec.encoder(self, len(audio))).push(audio), stream.flush()], dim=2)


@breaks("tokenizer", "decoder stream: a sample comes as soon as its frames and the delay allow: 0 samples")
class LateAudio(Codec):
    def decoder(self, batch=1):
        return _Late(super().decoder(batch))

    def decode(self, codes):
        return torch.cat([(stream := Codec.decoder(self, len(codes))).push(codes), stream.flush()], dim=1)


@breaks("tokenizer", "encoder streams do not disturb each other")
class OneEncoder(Codec):
    shared = None

    def encoder(self, batch=1):
        self.shared = self.shared or super().encoder(batch)
        return self.shared


@breaks("tokenizer", "decoder streams do not disturb each other")
class OneDecoder(Codec):
    shared = None

    def decoder(self, batch=1):
        self.shared = self.shared or super().decoder(batch)
        return self.shared


class _ForgetsAll(_Wrapped):
    def reset(self, rows):
        self.inner.reset(torch.ones_like(rows))


class _ForgetsNone(_Wrapped):
    def reset(self, rows):
        pass


@breaks(
    "tokenizer", "encoder stream: reset(rows) starts those rows anew and leaves the others: the row that was not reset"
)
class ResetsEveryEncoderRow(Codec):
    def encoder(self, batch=1):
        return _ForgetsAll(super().encoder(batch))


@breaks("tokenizer", "encoder stream: reset(rows) starts those rows anew and leaves the others: the row that was reset")
class ResetsNoEncoderRow(Codec):
    def encoder(self, batch=1):
        return _ForgetsNone(super().encoder(batch))


@breaks(
    "tokenizer", "decoder stream: reset(rows) starts those rows anew and leaves the others: the row that was not reset"
)
class ResetsEveryDecoderRow(Codec):
    def decoder(self, batch=1):
        return _ForgetsAll(super().decoder(batch))


@breaks("tokenizer", "decoder stream: reset(rows) starts those rows anew and leaves the others: the row that was reset")
class ResetsNoDecoderRow(Codec):
    def decoder(self, batch=1):
        return _ForgetsNone(super().decoder(batch))


class _Drifting(_Wrapped):
    calls = 0

    def push(self, chunk):
        self.calls += 1
        return super().push(chunk) + 1e-3 * (self.calls - 1)


@breaks("tokenizer", "decoder stream: every split of the codes gives the offline audio within 0.0001: pushes of")
class Drifts(Codec):
    def decoder(self, batch=1):
        return _Drifting(super().decoder(batch))

    def decode(self, codes):
        return torch.cat([(stream := Codec.decoder(self, len(codes))).push(codes), stream.flush()], dim=1)


# ------------------------------------------------------------------------------------------------ latents


@breaks("objective", "is built by cls(config, space), and is chunked, clocked and names its unit")
class Unitless(RectifiedFlow):
    unit = None


@breaks("objective", "loss: a finite scalar with a gradient for every parameter of the model, detached parts")
class Infinite(RectifiedFlow):
    def loss(self, model, batch, clock, rng):
        loss = super().loss(model, batch, clock, rng)
        return attrs.evolve(loss, parts={"t_0": loss.total})


@breaks("objective", "the total is the mean of the parts over so many frames of each")
class Miscounts(RectifiedFlow):
    def loss(self, model, batch, clock, rng):
        loss = super().loss(model, batch, clock, rng)
        return attrs.evolve(loss, counts=loss.counts.flip(0))


@breaks("objective", "the same generator gives the same loss, with conditions dropped at random")
class LossDrifts(RectifiedFlow):
    calls = 0

    def loss(self, model, batch, clock, rng):
        LossDrifts.calls += 1
        loss = super().loss(model, batch, clock, rng)
        return attrs.evolve(loss, total=loss.total + LossDrifts.calls)


@breaks("objective", "targets outside `valid` do nothing")
class TakesAll(RectifiedFlow):
    def loss(self, model, batch, clock, rng):
        return super().loss(model, attrs.evolve(batch, valid=torch.ones_like(batch.valid)), clock, rng)


@breaks("objective", "a block from s on hears x up to frame s + t_f, and nothing later")
class HearsAhead(RectifiedFlow):
    def loss(self, model, batch, clock, rng):
        return super().loss(model, attrs.evolve(batch, x=batch.x.roll(-1, 1)), clock, rng)


@breaks("sampler", "is built by cls(config, space) and has levels from 1 down to 0, and plus")
class Upwards(Euler):
    def __init__(self, config, space):
        super().__init__(config, space)
        self.levels = self.levels[::-1]


@breaks("sampler", "path: N steps, each of finite latents [B, E, k], asking the model once, at its level")
class AsksTwice(Euler):
    def path(self, predict, draw):
        predict(draw(0), 1.0)
        yield from super().path(predict, draw)


@breaks("sampler", "what is certain is found, whatever the noise")
class StopsEarly(Euler):
    def path(self, predict, draw):
        for x in super().path(predict, draw):
            yield x + 0.01


@breaks("sampler", "the same noise gives the same latents, and a row does not depend on the others")
class MixesRows(Euler):
    def path(self, predict, draw):
        for x in super().path(predict, draw):
            yield x - 0.0 if len(x) == 1 else x.flip(0)


@breaks("sampler", "other noise gives other latents")
class Noiseless(Euler):
    def path(self, predict, draw):
        yield from super().path(predict, lambda number: torch.zeros_like(draw(number)))
