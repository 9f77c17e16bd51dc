"""Teacher-forced loss and accuracy on the evaluated clips, and the gain from the context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from attrs import frozen

from accomp.core.types import Loss, Take, TokenSpace


class Token:
    """Loss and accuracy of a model on the codes of the true stems, and the loss reduction by the context.

        loss          nats per token by the model's objective, all levels pooled; `loss_level_q` of one level;
                      for latents squared error per element, `loss_t_0`..`loss_t_3` of quarters of the noise levels
        accuracy      share of tokens whose most likely code is correct; `accuracy_level_q` of one level
        context_gain  loss with the context of another song - loss with the own one, nats per token: 0 for a model
                      that ignores its context

    Takes are weighted by their number of tokens. A level without predicted tokens (possible for masked models) is
    omitted for that take. Anchors have no model and no values.
    """

    best: ClassVar[dict[str, float]] = {}
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    @frozen
    class Config:
        """No options."""

    def __init__(self, config: Config, space: TokenSpace):
        self.sample_rate = space.sample_rate
        self._space = space
        self._takes: dict[str, dict[str, tuple[float, float]]] = {}

    def fresh(self) -> Token:
        """Return an empty metric for another set of takes."""
        return Token(self.Config(), self._space)

    def update(self, take: Take) -> None:
        """Add the losses of a take. Raises ValueError for missing losses, a known id, and a loss over no token."""
        if take.id in self._takes:
            raise ValueError(f"take '{take.id}' was given twice")
        if take.losses is None or "own" not in take.losses:
            raise ValueError(f"take '{take.id}' has no losses of a model")
        self._takes[take.id] = _sums(take.losses["own"], take.losses.get("swapped"))

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """The numbers over these takes. Raises ValueError where there is none."""
        chosen = [self._takes[id] for id in (self._takes if takes is None else takes)]
        if not chosen:
            raise ValueError("token was given no take")
        sums: dict[str, list[tuple[float, float]]] = {}
        for take in chosen:
            for name, pair in take.items():
                sums.setdefault(name, []).append(pair)
        totals = {name: np.sum(pairs, axis=0) for name, pairs in sums.items()}
        return {name: float(total / count) for name, (total, count) in totals.items()}

    def per_take(self) -> dict[str, dict[str, float]]:
        """Return the same values for each take id."""
        return {id: self.result([id]) for id in self._takes}


def _sums(own: Loss, swapped: Loss | None) -> dict[str, tuple[float, float]]:
    """Return the sum over tokens and their count for each value; omit values without tokens."""
    if own.counts is None:
        raise ValueError("the model's objective does not report the number of tokens of its loss")
    counts = own.counts.double()
    every = float(counts.sum())
    found = {"loss": (float(own.total) * every, every)}
    parts = zip(own.parts.items(), counts, strict=False)
    levels = {f"loss_{part}": (float(mean * n), float(n)) for (part, mean), n in parts}
    if own.right is not None:
        right = own.right.double() * counts
        found["accuracy"] = (float(right.sum()), every)
        levels |= {f"accuracy_level_{q}": (float(right[q]), float(n)) for q, n in enumerate(counts)}
    if swapped is not None:
        found["context_gain"] = (float(swapped.total - own.total) * every, every)
    found = {name: pair for name, pair in {**found, **levels}.items() if pair[1]}
    if not found:
        raise ValueError("this clip has no tokens to predict")
    if not torch.isfinite(torch.tensor([total for total, _ in found.values()])).all():
        raise ValueError("the model's loss on this clip is not finite")
    return found
