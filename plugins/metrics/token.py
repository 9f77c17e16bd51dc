"""Does the model predict what the musicians played, and does it listen? Teacher-forced, on the judged clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from attrs import frozen

from accomp.plugin import Loss, Take, TokenSpace


class Token:
    """Loss and accuracy of a model on the codes of the true stems of its takes, and what the context is worth to it.

        loss          nats a token, as the model's objective counts them, all levels pooled; `loss_level_q` of one;
                      of latents squared error a number, `loss_t_0`..`loss_t_3` of quarters of the noise levels
        accuracy      share of the tokens whose likeliest code is right; `accuracy_level_q` of one level
        context_gain  loss with another song's context - loss with the own one, nats a token: 0 for a model that does
                      not listen

    Over several takes each counts with its number of tokens. No model is asked for a level of which nothing was to be
    predicted (a masked model's clip may have none): such a take does not count there. Anchors have no model.
    """

    best: ClassVar[dict[str, float]] = {}
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    @frozen
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config, space: TokenSpace):
        self.sample_rate = space.sample_rate
        self._space = space
        self._takes: dict[str, dict[str, tuple[float, float]]] = {}

    def fresh(self) -> Token:
        """An empty metric for another set of takes."""
        return Token(self.Config(), self._space)

    def update(self, take: Take) -> None:
        """Take in a take's losses. Raises ValueError for a take without, a known id, and a loss over no token."""
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
        """Take id -> the same numbers."""
        return {id: self.result([id]) for id in self._takes}


def _sums(own: Loss, swapped: Loss | None) -> dict[str, tuple[float, float]]:
    """Number -> its sum over tokens, and how many these are; without those that no token tells of."""
    if own.counts is None:
        raise ValueError("the model's objective does not say of how many tokens its loss is the mean")
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
        raise ValueError("no token of this clip was to be predicted")
    if not torch.isfinite(torch.tensor([total for total, _ in found.values()])).all():
        raise ValueError("the model's loss on this clip is no number")
    return found
