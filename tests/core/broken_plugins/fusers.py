"""Broken plugins: fuser."""

import torch

from accomp.plugins.fusers.gated_add import GatedAdd
from broken_plugins.register import breaks


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
