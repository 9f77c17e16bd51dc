"""Broken plugins: masked sampler."""

import torch
from attrs import frozen

from accomp.core.keyed_random import KeyedRandom
from broken_plugins.register import breaks


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
