"""Classifier-free guidance with several conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

import torch
from attrs import field, frozen
from torch import Tensor


@frozen
class Guidance:
    """l = sum_i w_i l(c_i) + (1 - sum_i w_i) l(), over the guided conditions c_i (eq. 3 of StemGen, arXiv 2312.08723).

    l(c_i) are the logits where of the guided conditions only c_i is given, l() those without any; conditions without
    guidance are always given. With one condition it is l() + w (l(c) - l()), classifier-free guidance. All variants of
    a row of a batch are computed side by side, in a batch that is G times as large: variant g of row b is g * B + b.

    A c_i may be several conditions that are given and withheld together: with the one scale "metronome+chart" there are
    two variants, with "metronome" and "chart" three.

    Attributes:
        scales: condition, or several joined by "+", -> w_i; without any nothing changes. "context" is the audio, other
            names are labels and timelines.
        plus: whether `without` is used (CFG++), so that its forward is never left out.
        conditions: the guided ones.
        variants: (withheld conditions, weight) of each forward; those of weight 0 are left out, one always stays.
    """

    scales: Mapping[str, float] = field(factory=dict)
    plus: bool = False
    conditions: frozenset[str] = field(init=False, eq=False, repr=False)
    variants: tuple[tuple[frozenset[str], float], ...] = field(init=False, eq=False, repr=False)

    @conditions.default
    def _named(self) -> frozenset[str]:
        return frozenset().union(*map(conditions_of, self.scales))

    @variants.default
    def _forwards(self) -> tuple[tuple[frozenset[str], float], ...]:
        return tuple(self._weighted()) or ((frozenset(), 1.0),)

    def _weighted(self) -> Iterator[tuple[frozenset[str], float]]:
        rest = 1.0 - sum(self.scales.values())
        for names, weight in self.scales.items():
            if weight:
                yield self.conditions - conditions_of(names), float(weight)
        if self.scales and (self.plus or abs(rest) > 1e-9):
            yield self.conditions, rest

    def repeat(self, value: Tensor) -> Tensor:
        """Repeat [B, ...] -> [G * B, ...], the same for every variant."""
        return value if len(self.variants) == 1 else value.repeat(len(self.variants), *[1] * (value.ndim - 1))

    def spread(self, x: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Repeat x [B, S, E] and labels name -> [B] for G * B rows, withheld as in training: 0 and -1."""
        return self.spread_context(x), self.spread_labels(labels)

    def spread_context(self, x: Tensor) -> Tensor:
        """Repeat x [B, S, E] -> [G * B, S, E], 0 in the variants without the audio."""
        return self._spread({"context"}, x, 0.0)

    def with_context(self, x: Tensor) -> Tensor:
        """The audio x [G * B, S, E] of the variants -> [B, S, E]: 0 where no variant has it."""
        parts = x.chunk(len(self.variants))
        given = [part for part, (held, _) in zip(parts, self.variants, strict=True) if "context" not in held]
        return given[0] if given else torch.zeros_like(parts[0])

    def spread_labels(self, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Repeat name -> classes [B] -> name -> [G * B], -1 in the variants without the label."""
        return {name: self._spread({name}, classes, -1) for name, classes in labels.items()}

    def spread_timelines(self, timelines: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Repeat name -> [B, S, N] -> name -> [G * B, S, N], 0 in the variants without the timeline."""
        return {name: self._spread({name}, values, 0.0) for name, values in timelines.items()}

    def spread_heard(self, timelines: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Repeat as `spread_timelines` what was heard in the audio: 0 also in the variants without that."""
        return {name: self._spread({name, "context"}, values, 0.0) for name, values in timelines.items()}

    def _spread(self, names: Set[str], value: Tensor, nothing: float) -> Tensor:
        """Repeat a value, `nothing` in the variants that withhold any of the conditions."""
        if not any(names & withheld for withheld, _ in self.variants):
            return self.repeat(value)
        blank = torch.full_like(value, nothing)
        return torch.cat([blank if names & withheld else value for withheld, _ in self.variants])

    def without(self, logits: Tensor) -> Tensor:
        """Logits [G * B, ...] of the variants -> those without any of the guided conditions [B, ...].

        The guided ones if no forward is without all of them: no scales are set, or `plus` is false.
        """
        if self.scales and self.variants[-1][0] == self.conditions:
            return logits.chunk(len(self.variants))[-1]
        return self.combine(logits)

    def combine(self, logits: Tensor) -> Tensor:
        """Logits [G * B, ...] of the variants -> the guided logits [B, ...]."""
        if not self.scales:
            return logits
        parts = logits.chunk(len(self.variants))
        first, *rest = (weight * part for (_, weight), part in zip(self.variants, parts, strict=True))
        return sum(rest, start=first)


def conditions_of(names: str) -> frozenset[str]:
    """The conditions that a key of `scales` names."""
    return frozenset(name.strip() for name in names.split("+"))


UNGUIDED = Guidance()
"""No guidance: the conditions as in training."""
