"""Batches that take longer to make than to learn from, kept in memory and learned from several times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

Batch = TypeVar("Batch")


class KeptBatches(Generic[Batch]):
    """Batches by number, of which each step draws one of `keep`; the first of these gives way every `again` steps.

    So each is drawn `again` times on average. `make` returns the batch of a number, always the same one: what a resumed
    training lacks is made anew when it is drawn.
    """

    def __init__(self, make: Callable[[int], Batch], keep: int, again: int):
        self._make, self._keep, self._again = make, keep, again
        self._batches: dict[int, Batch] = {}

    def draw(self, step: int, rng: torch.Generator) -> Batch:
        first = step // self._again
        for number in [number for number in self._batches if number < first]:
            del self._batches[number]
        number = first + int(torch.randint(self._keep, (), generator=rng))
        if number not in self._batches:
            self._batches[number] = self._make(number)
        return self._batches[number]
