"""Broken plugins: latents."""

import attrs
import torch

from accomp.plugins.objectives.rectified_flow import RectifiedFlow
from accomp.plugins.samplers.euler import Euler
from broken_plugins.register import breaks


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
