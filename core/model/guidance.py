"""Guidance: asking the model with and without what it is told, to make it listen more closely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from attrs import field, frozen
from torch import Tensor


@frozen
class Guidance:
    """l = sum_i w_i l(c_i) + (1 - sum_i w_i) l(), over the guided conditions c_i (eq. 3 of StemGen, arXiv 2312.08723).

    l(c_i) are the logits where of the guided conditions only c_i is given, l() those where none is; what is not guided
    is always given. With one condition it is l() + w (l(c) - l()), classifier-free guidance. All variants of a row of
    a batch are computed side by side, as rows of a batch that is G times as large: variant g of row b is g * B + b.

    Attributes:
        scales: condition -> w_i; without any nothing changes. "context" is the audio, other names are labels.
        plus: whether `without` is asked for, so that its forward is never left out (CFG++).
        variants: (what is withheld, weight) of each forward; those of weight 0 are left out, one always stays.
    """

    scales: Mapping[str, float] = field(factory=dict)
    plus: bool = False
    variants: tuple[tuple[frozenset[str], float], ...] = field(init=False, eq=False, repr=False)

    @variants.default
    def _forwards(self) -> tuple[tuple[frozenset[str], float], ...]:
        return tuple(self._weighted()) or ((frozenset(), 1.0),)

    def _weighted(self) -> Iterator[tuple[frozenset[str], float]]:
        rest = 1.0 - sum(self.scales.values())
        for name, weight in self.scales.items():
            if weight:
                yield frozenset(self.scales) - {name}, float(weight)
        if self.scales and (self.plus or abs(rest) > 1e-9):
            yield frozenset(self.scales), rest

    def repeat(self, value: Tensor) -> Tensor:
        """[B, ...] -> [G * B, ...], the same for every variant."""
        return value if len(self.variants) == 1 else value.repeat(len(self.variants), *[1] * (value.ndim - 1))

    def spread(self, x: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """x [B, S, E] and labels name -> [B] -> the same for G * B rows, withheld as training withholds: 0 and -1."""
        return self.spread_context(x), self.spread_labels(labels)

    def spread_context(self, x: Tensor) -> Tensor:
        """x [B, S, E] -> [G * B, S, E], 0 in the variants that do not hear it."""
        return self._spread("context", x, 0.0)

    def spread_labels(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name -> classes [B] -> name -> [G * B], -1 in the variants that do not see the label."""
        return {name: self._spread(name, classes, -1) for name, classes in labels.items()}

    def spread_timelines(self, timelines: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name -> [B, S, N] -> name -> [G * B, S, N], 0 in the variants that are not told."""
        return {name: self._spread(name, values, 0.0) for name, values in timelines.items()}

    def _spread(self, name: str, value: Tensor, nothing: float) -> Tensor:
        if not any(name in withheld for withheld, _ in self.variants):
            return self.repeat(value)
        blank = torch.full_like(value, nothing)
        return torch.cat([blank if name in withheld else value for withheld, _ in self.variants])

    def without(self, logits: Tensor) -> Tensor:
        """Logits [G * B, ...] of the variants -> those where none of the guided conditions is given [B, ...].

        The guided ones where no forward is without them all: nothing guides, or `plus` is not asked for.
        """
        if self.scales and self.variants[-1][0] == frozenset(self.scales):
            return logits.chunk(len(self.variants))[-1]
        return self.combine(logits)

    def combine(self, logits: Tensor) -> Tensor:
        """Logits [G * B, ...] of the variants -> the guided ones [B, ...]."""
        if not self.scales:
            return logits
        parts = logits.chunk(len(self.variants))
        first, *rest = (weight * part for (_, weight), part in zip(self.variants, parts, strict=True))
        return sum(rest, start=first)


UNGUIDED = Guidance()
"""As the model was trained."""
