"""Top-k sampling."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.plugin import (
    Decoding,
    KeyedRandom,
    TokenSpace,
    draw,
    fewest_likeliest,
    in_one_kernel,
    temper,
    valid_temperature,
)


class TopK:
    """Sampling from the k most likely codes: argmax(logits / temperature + Gumbel noise)."""

    decoding: ClassVar[Decoding] = "causal"
    controls: ClassVar[tuple[str, ...]] = ("temperature",)

    @frozen
    class Config:
        """`k`: number of codes to sample from; `temperature`: 0 takes the most likely code."""

        k: int = field(default=200, validator=v.ge(1))
        temperature: float = field(default=1.0, validator=valid_temperature)

    def __init__(self, config: Config, space: TokenSpace):
        self.k, self.temperature = config.k, config.temperature

    def pick(self, logits: Tensor, rng: KeyedRandom, temperature: Tensor | None = None) -> Tensor:
        """logits [B, K, C], temperature [B] instead of the configured one -> codes [B, K] int64."""
        t = self.temperature if temperature is None else temperature
        if in_one_kernel(logits):
            chosen = fewest_likeliest(logits, 1.0, self.k)
            return draw(torch.where(chosen, temper(logits, t), -math.inf), rng)
        likeliest, codes = temper(logits, t).topk(min(self.k, logits.shape[-1]), sorted=False)
        return draw(likeliest, rng, codes)
