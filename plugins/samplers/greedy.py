"""Greedy decoding."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen
from torch import Tensor

from accomp.core.interfaces import Decoding
from accomp.core.keyed_random import KeyedRandom
from accomp.core.types import TokenSpace


class Greedy:
    """The most likely code of each level, the first among ties; deterministic."""

    decoding: ClassVar[Decoding] = "causal"

    @frozen
    class Config:
        """No options."""

    def __init__(self, config: Config, space: TokenSpace):
        """Do nothing."""

    def pick(self, logits: Tensor, rng: KeyedRandom) -> Tensor:
        """logits [B, K, C] -> codes [B, K] int64. `rng` is not used."""
        return logits.argmax(-1)
