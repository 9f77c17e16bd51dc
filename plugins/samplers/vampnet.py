"""The sampler of VampNet: iterative unmasking by confidence with annealed Gumbel noise."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.core.interfaces import Decoding, Predict
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.masking import STEPS, Candidates, Draw, each, fill_in, per_level
from accomp.core.model.sampling import valid_temperature
from accomp.core.types import TokenSpace


class VampNet:
    """Iterative unmasking ranked in step t of S by conf(y_n) = log p(y_n) + a (1 - (t + 1) / S) g_n.

    Eq. 4 of arXiv 2510.22105 (A.5), after VampNet (arXiv 2307.04686). g ~ Gumbel(0, 1), p is the probability of the
    drawn code, a the entry of its level in `temperatures`. Candidates are drawn from the softmax of the logits.
    """

    decoding: ClassVar[Decoding] = "masked"

    @frozen
    class Config:
        """Tuples hold one number a level, or one for all. The defaults are the paper's, for four levels.

        Attributes:
            temperatures: a, scale of the noise in the ranking, annealed to 0 at the last step of the level; by default
                8, 8, and 4 for all further levels.
            steps: forward passes per level, at most one per token; by default 128, 64, and 32 for all further levels.
            temperature: sampling temperature; 0 takes the most likely code.
            top_k: number of most likely codes to sample from; all by default.
        """

        temperatures: tuple[float, ...] | None = field(default=None, validator=each(valid_temperature))
        steps: tuple[int, ...] | None = field(default=None, validator=each(v.ge(1)))
        temperature: float = field(default=1.0, validator=valid_temperature)
        top_k: int | None = field(default=None, validator=v.optional(v.ge(1)))

    def __init__(self, config: Config, space: TokenSpace):
        """Raises CombinationError where a tuple has neither one number nor one for each of the codec's levels."""
        self.steps = per_level("sampler.steps", config.steps, STEPS, space)
        self.heat = per_level("sampler.temperatures", config.temperatures, (8.0, 8.0, 4.0), space)
        self.draw = Draw(config.temperature, config.top_k)

    def fill(self, predict: Predict, canvas: Tensor, todo: Tensor, rng: KeyedRandom) -> Tensor:
        """canvas [B, K, T], todo [B, K, T] bool -> codes [B, K, T] int64."""
        return fill_in(predict, canvas, todo, rng, steps=self.steps, draw=self.draw, rank=self._rank)

    def _rank(self, candidates: Candidates) -> Tensor:
        """conf [B, T]."""
        gumbel = candidates.noise.gumbel(1).squeeze(-1)
        return candidates.p.log() + self.heat[candidates.level] * (1 - candidates.progress) * gumbel
