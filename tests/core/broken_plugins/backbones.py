"""Broken plugins: backbone."""

import attrs
import torch
from attrs import frozen

from accomp.core.streaming.kv_cache import RingKVCache
from accomp.plugins.backbones.llama import Llama
from broken_plugins.register import breaks


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
        return attrs.evolve(sight, visible=sight.visible.mT)


@breaks("backbone", "a row depends on the rows that it sees and on what those see, and on no other: output 0 of item")
class OneMaskForAll(_Seeing):
    def seen(self, sight):
        return attrs.evolve(sight, visible=sight.visible[:1])


@breaks("backbone", "a row depends on the rows that it sees and on what those see, and on no other: output")
class LooksNowhere(_Seeing):
    def seen(self, sight):
        return attrs.evolve(sight, visible=sight.visible & sight.visible.mT)


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
