"""StemGen's sampler: iterative decoding that prefers earlier frames."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.plugin import Decoding, KeyedRandom, Predict, TokenSpace, valid_temperature
from accomp.plugin.sequences import STEPS, Candidates, Draw, each, fill_in, per_level

_weight = v.and_(v.ge(0.0), v.lt(math.inf))


class CausalBias:
    """rho(x_n) = w_c c(x_n) + w_s (1 - n / N) + w_r X: which candidates a step keeps (eq. 1 of arXiv 2312.08723).

    c is the probability that the model gives to the drawn code, n / N the frame's place in the clip, X ~ U(0, 1).
    """

    decoding: ClassVar[Decoding] = "masked"

    @frozen
    class Config:
        """`steps`, one number a level or one for all, is 128, 64, 32 where absent, and 32 for all finer levels.

        Attributes:
            w_c: weight of the model's confidence.
            w_s: weight of the bias towards earlier frames.
            w_r: weight of chance.
            steps: forwards for each level, at most one a token.
            temperature: of the draw; the lower, the surer; 0 takes the likeliest code.
            top_k: how many of the likeliest codes can be drawn; all where absent.
        """

        w_c: float = field(default=0.1, validator=_weight)
        w_s: float = field(default=0.1, validator=_weight)
        w_r: float = field(default=1.0, validator=_weight)
        steps: tuple[int, ...] | None = field(default=None, validator=each(v.ge(1)))
        temperature: float = field(default=1.0, validator=valid_temperature)
        top_k: int | None = field(default=None, validator=v.optional(v.ge(1)))

    def __init__(self, config: Config, space: TokenSpace):
        """Raises CombinationError where the numbers of steps are not those of the codec's levels."""
        self.config = config
        self.steps = per_level("sampler.steps", config.steps, STEPS, space)
        self.draw = Draw(config.temperature, config.top_k)

    def fill(self, predict: Predict, canvas: Tensor, todo: Tensor, rng: KeyedRandom) -> Tensor:
        """canvas [B, K, T], todo [B, K, T] bool -> codes [B, K, T] int64."""
        return fill_in(predict, canvas, todo, rng, steps=self.steps, draw=self.draw, rank=self._rank)

    def _rank(self, candidates: Candidates) -> Tensor:
        """rho [B, T]."""
        config, p = self.config, candidates.p
        earliness = 1 - torch.arange(p.shape[1], device=p.device) / p.shape[1]
        chance = candidates.noise.uniform(1).squeeze(-1)
        return config.w_c * p + config.w_s * earliness + config.w_r * chance
