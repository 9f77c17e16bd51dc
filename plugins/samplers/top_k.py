"""Sampling from the k likeliest codes."""

from __future__ import annotations

import math
from typing import ClassVar

from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.core.interfaces import Decoding
from accomp.core.streaming.noise import Noise
from accomp.core.types import TokenSpace


class TopK:
    """argmax(logits / temperature + Gumbel noise) over the k likeliest codes: a sample from their softmax."""

    decoding: ClassVar[Decoding] = "causal"

    @frozen
    class Config:
        """`k`: how many codes are kept (codes as likely as the k-th stay too); `temperature`: 0 picks the likeliest."""

        k: int = field(default=200, validator=v.ge(1))
        temperature: float = field(default=1.0, validator=v.ge(0.0))

    def __init__(self, config: Config, space: TokenSpace):
        self.k, self.temperature = config.k, config.temperature

    def pick(self, logits: Tensor, rng: Noise) -> Tensor:
        """logits [B, K, C] -> codes [B, K] int64."""
        if self.temperature == 0.0:
            return logits.argmax(-1)
        codes = logits.shape[-1]
        if self.k < codes:
            threshold = logits.topk(self.k, sorted=False).values.amin(-1, keepdim=True)
            logits = logits.masked_fill(logits < threshold, -math.inf)
        return (logits / self.temperature + rng.gumbel(codes)).argmax(-1)
