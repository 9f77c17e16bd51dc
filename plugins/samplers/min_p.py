"""Min-p sampling: from the codes above a share of the highest probability."""

from __future__ import annotations

import math
from typing import ClassVar

from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.core.interfaces import Decoding
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.sampling import draw, temper, valid_temperature
from accomp.core.types import TokenSpace


class MinP:
    """Sampling from the codes with at least p times the probability of the most likely code (arXiv 2407.01082).

    The probabilities are softmax(logits / temperature): temperature is applied first, as in most implementations.
    """

    decoding: ClassVar[Decoding] = "causal"
    controls: ClassVar[tuple[str, ...]] = ("temperature",)

    @frozen
    class Config:
        """`p`: 0 keeps every code, 1 only the most likely; `temperature`: 0 takes the most likely code."""

        p: float = field(default=0.05, validator=[v.ge(0.0), v.le(1.0)])
        temperature: float = field(default=1.0, validator=valid_temperature)

    def __init__(self, config: Config, space: TokenSpace):
        self.floor = math.log(config.p) if config.p else -math.inf
        self.temperature = config.temperature

    def pick(self, logits: Tensor, rng: KeyedRandom, temperature: Tensor | None = None) -> Tensor:
        """logits [B, K, C], temperature [B] instead of the configured one -> codes [B, K] int64."""
        logits = temper(logits, self.temperature if temperature is None else temperature)
        return draw(logits.masked_fill(logits < self.floor, -math.inf), rng)
