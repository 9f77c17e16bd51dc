"""Greedy decoding."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen
from torch import Tensor

from accomp.plugin import Decoding, KeyedRandom, TokenSpace


class Greedy:
    """The likeliest code of each level, the first of equals; the same music every time."""

    decoding: ClassVar[Decoding] = "causal"

    @frozen
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config, space: TokenSpace):
        """There is nothing to set up."""

    def pick(self, logits: Tensor, rng: KeyedRandom) -> Tensor:
        """logits [B, K, C] -> codes [B, K] int64. The noise is not used."""
        return logits.argmax(-1)
