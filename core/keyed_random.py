"""Random numbers that depend on what they are for, not on when or beside whom they are drawn."""

from __future__ import annotations

import math

import torch
from attrs import define
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, odd, and so it has an inverse modulo 2^64:
_GOLDEN_INVERSE = -1018231460777725123
_FOLD = -3335678366873096957  # 0xD1B54A32D192ED03, odd
_FOLD_INVERSE = 436968802925209003


@define(eq=False)  # torch.compile cannot trace how a frozen one is made
class KeyedRandom:
    """A counter-based generator: SplitMix64 (Steele, Lea, Flood 2014), started anew from a key of every item.

    Noise.seeded(seed, device).fold(session).fold(level).fold(frame) has a key for each session, level and frame, of
    the shape that these broadcast to. Its numbers are the same alone and in a batch, however the input was split, on
    every device (int64 arithmetic wraps alike on all). Nothing is drawn twice by accident, because nothing is counted:
    the same key gives the same numbers.

    Attributes:
        key: [...] int64.
    """

    key: Tensor

    @classmethod
    def seeded(cls, seed: int | Tensor, device: torch.device | str = "cpu") -> KeyedRandom:
        """The root of an experiment's noise; its key is a scalar, or as `seed` is. Seeds count modulo 2^64."""
        if not isinstance(seed, Tensor):
            seed = torch.tensor((seed + 2**63) % 2**64 - 2**63, device=device)
        return cls(seed).fold(0)

    @classmethod
    def of_sessions(cls, seed: int | Tensor, sessions: Tensor, codebooks: int) -> KeyedRandom:
        """That of the sessions numbered `sessions` [B] and their levels; its keys are [B, K]. seed: one, or [B]."""
        levels = torch.arange(codebooks, device=sessions.device)
        return KeyedRandom(cls.seeded(seed, sessions.device).fold(sessions).key[:, None]).fold(levels)

    def fold(self, number: int | Tensor) -> KeyedRandom:
        """Noise for item `number` (int64, broadcast against the key); other numbers give unrelated noise."""
        number = torch.as_tensor(number, device=self.key.device)
        return KeyedRandom(_mix(_advance(self.key, number + 1, _FOLD, _FOLD_INVERSE)))

    def uniform(self, n: int | Tensor) -> Tensor:
        """Numbers 0..n-1 of each key, or those numbered n [..., m] int64: uniform in (0, 1), float32 [..., m].

        Never 0 or 1.
        """
        number = n if isinstance(n, Tensor) else torch.arange(n, device=self.key.device)
        bits = _mix(_advance(self.key[..., None], number + 1, _GOLDEN, _GOLDEN_INVERSE))
        return (_shifted(bits, 41).float() + 0.5) * 2.0**-23

    def normal(self, n: int) -> Tensor:
        """The same numbers as standard normal noise, float32 [..., n]: sqrt(2) erfinv(2 u - 1)."""
        return math.sqrt(2) * torch.erfinv(2 * self.uniform(n) - 1)

    def gumbel(self, n: int | Tensor) -> Tensor:
        """The same numbers as standard Gumbel noise, float32: argmax(log p + gumbel) is a sample from p."""
        return -torch.log(-torch.log(self.uniform(n)))


def _advance(key: Tensor, steps: Tensor, stride: int, inverse: int) -> Tensor:
    """key + steps * stride modulo 2^64, as (key / stride + steps) * stride.

    Where torch.compile makes C++ of a count of steps, `steps * stride` alone would be a product that is known to
    overflow: undefined there, and a crash. With the key in it nothing is known.
    """
    return (key * inverse + steps) * stride


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection of 64 bits in which every input bit stirs every output bit."""
    z = (z ^ _shifted(z, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    z = (z ^ _shifted(z, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of an int64 tensor."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
