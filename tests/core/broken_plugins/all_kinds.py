"""Broken plugins: all kinds."""

import random
import sys

import numpy as np
import torch
from attrs import define, frozen

from accomp.plugins.fusers.gated_add import GatedAdd
from accomp.plugins.samplers.top_k import TopK
from broken_plugins.register import BROKEN, breaks


class _NoDocstring(TopK):
    pass


_NoDocstring.__doc__ = None
BROKEN.append(("sampler", f"{__name__}:_NoDocstring", "has a docstring"))


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
