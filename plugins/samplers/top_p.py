"""Nucleus sampling: from the smallest set of codes with most of the probability."""

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


class TopP:
    """Sampling from the nucleus: the smallest set of codes with total probability at least p (arXiv 1904.09751, 3.1).

    The probabilities are softmax(logits / temperature): temperature is applied first, as in most implementations.
    Ties with the least likely code of the nucleus are kept, so that the order of codes does not matter.
    """

    decoding: ClassVar[Decoding] = "causal"
    controls: ClassVar[tuple[str, ...]] = ("temperature",)

    @frozen
    class Config:
        """`p`: 1 keeps every code; `temperature`: 0 takes the most likely code."""

        p: float = field(default=0.95, validator=[v.gt(0.0), v.le(1.0)])
        temperature: float = field(default=1.0, validator=valid_temperature)

    def __init__(self, config: Config, space: TokenSpace):
        self.p, self.temperature = config.p, config.temperature

    def pick(self, logits: Tensor, rng: KeyedRandom, temperature: Tensor | None = None) -> Tensor:
        """logits [B, K, C], temperature [B] instead of the configured one -> codes [B, K] int64."""
        logits = temper(logits, self.temperature if temperature is None else temperature)
        if in_one_kernel(logits):
            chosen = fewest_likeliest(logits, logits.softmax(-1), self.p)
            return draw(torch.where(chosen, logits, -math.inf), rng)
        rising = logits.sort(-1).values
        tail = rising.softmax(-1).cumsum(-1)  # probability of a code and all less likely ones
        outside = tail <= 1.0 - self.p
        outside[..., -1] = False  # the most likely code is kept for any p
        least = rising.masked_fill(outside, math.inf).amin(-1, keepdim=True)
        return draw(logits.masked_fill(logits < least, -math.inf), rng)
