"""The sampler of StemGen: iterative unmasking biased towards earlier frames."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.core.interfaces import Decoding, Predict
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.masking import STEPS, Candidates, Draw, each, fill_in, per_level
from accomp.core.model.sampling import valid_temperature
from accomp.core.types import TokenSpace

_weight = v.and_(v.ge(0.0), v.lt(math.inf))


class CausalBias:
    """Iterative unmasking ranked by rho(x_n) = w_c c(x_n) + w_s (1 - n / N) + w_r X (eq. 1 of arXiv 2312.08723).

    c is the probability of the drawn code, n / N the relative position of the frame in the clip, X ~ U(0, 1).
    """

    decoding: ClassVar[Decoding] = "masked"

    @frozen
    class Config:
        """Weights of the ranking and settings of the draw.

        Attributes:
            w_c: weight of the model's confidence.
            w_s: weight of the bias towards earlier frames.
            w_r: weight of uniform noise.
            steps: forward passes per level, one number a level or one for all, at most one per token; by default
                128, 64, and 32 for all further levels.
            temperature: sampling temperature; 0 takes the most likely code.
            top_k: number of most likely codes to sample from; all by default.
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
