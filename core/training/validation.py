"""Held-out loss of the model, and the part of it that is due to the context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import attrs
import numpy as np
import torch
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.compute.devices import number_of
from accomp.core.data.loader import ClipLoader
from accomp.core.model.model import Model
from accomp.core.runs.history import NATS
from accomp.core.types import Batch, CodeBatch, Loss


class HasLoss(Protocol):
    """The part of an objective that validation needs."""

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Compute the loss; see Objective.loss."""
        ...


class Validation:
    """The loss on the same clips each time, with no condition withheld.

    Random draws of an objective (which codes it masks, where its chunk begins) are keyed by the batch: the same each
    time, and the same with the own context and with another song's. Every process of a run computes all of it, so that
    nothing has to be exchanged.
    """

    def __init__(self, loader: ClipLoader, batches: int, seed: int):
        """`loader` must yield all clips to each process. `seed` is of the objective's random draws."""
        self._loader, self._seed = loader, seed
        self._batches = list(loader.fixed(batches))
        self._partners = other_songs([clip.pair.track for clip in loader.fixed_clips(batches)])
        self._contexts = torch.cat([batch.context for batch in self._batches])

    def run(self, model: Model, objective: HasLoss, prepare: Callable[[CodeBatch], Batch]) -> dict[str, Any]:
        """Return `loss` (nats a token), `parts`, `accuracy`, `context_gain`, `tokens`; the model is left in training
        mode.

        context_gain: increase of the loss when each clip is predicted with another song's context: zero for a model
        that ignores its context, None where all clips are of one song. tokens: number of tokens of each level that the
        loss is the mean of; None where the objective does not count them. accuracy: level -> share of its tokens whose
        likeliest code is correct; empty where the objective does not compute it.
        """
        total, own, others = _Means(), _Means(), _Means()
        model.eval()
        with torch.no_grad(), nothing_withheld(model):
            first = 0
            for number, batch in enumerate(self._batches):
                partners = self._partners[first : first + len(batch.context)]
                first += len(batch.context)

                def measured(batch: CodeBatch, number: int = number) -> tuple[Loss, float]:
                    rng = torch.Generator().manual_seed(number_of(self._seed, number))
                    loss = objective.loss(model, prepare(batch), model.clock, rng)
                    return loss, float(batch.valid.sum())

                total.add(*measured(batch))
                rows = torch.tensor([row for row, partner in enumerate(partners) if partner is not None])
                if len(rows):
                    paired = _select(batch, rows)
                    own.add(*measured(paired))
                    swapped = self._contexts[[partner for partner in partners if partner is not None]]
                    others.add(*measured(attrs.evolve(paired, context=swapped)))
        model.train()
        gain = others.values["loss"] - own.values["loss"] if own.values else None
        loss = total.values.pop("loss")
        return {
            "loss": loss,
            "parts": total.values,
            "accuracy": total.right,
            "context_gain": gain,
            "tokens": total.tokens,
        }

    def unigram(self, tokens: Sequence[float] | None, objective: Any = None) -> dict[str, Any]:
        """Return `loss` and `parts` of a unigram predictor: the entropy of the split's target codes.

        The levels are weighted as in a loss over `tokens` of each, for comparability; equally where that is unknown.
        For latents: the loss of a predictor that knows mean and variance alone, by the objective's `line`.
        """
        if objective is not None and hasattr(objective, "line"):
            _, variance = self._loader.moments()
            named = {"what": "mean and variance alone", "unit": getattr(objective, "unit", NATS)}
            return {**objective.line(torch.from_numpy(variance)), **named}
        entropy = self._loader.unigram_entropy()
        parts = {f"level_{q}": float(nats) for q, nats in enumerate(entropy)}
        return {"loss": float(np.average(entropy, weights=tokens)), "parts": parts}


class _Means:
    """Means over batches: of a level's part over its tokens, of everything else over all tokens.

    Where an objective does not count tokens, over valid frames.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.right: dict[str, float] = {}
        self.tokens: list[float] | None = None
        self._weights: dict[str, float] = {}
        self._right_weights: dict[str, float] = {}

    def add(self, loss: Loss, frames: float) -> None:
        counts = None if loss.counts is None else loss.counts.tolist()
        whole = frames if counts is None else sum(counts)
        levels = dict(zip(loss.parts, counts or (), strict=False))
        if counts is not None:
            self.tokens = [a + b for a, b in zip(self.tokens or [0] * len(counts), counts, strict=True)]
        for name, value in {"loss": loss.total, **loss.parts}.items():
            _add(self.values, self._weights, name, float(value), levels.get(name, whole))
        for q, share in enumerate(() if loss.right is None else loss.right.tolist()):
            _add(self.right, self._right_weights, f"level_{q}", share, levels.get(f"level_{q}", whole))


def _add(means: dict[str, float], weights: dict[str, float], name: str, value: float, weight: float) -> None:
    if weight:
        weights[name] = weights.get(name, 0.0) + weight
        before = means.get(name, 0.0)
        means[name] = before + (value - before) * weight / weights[name]


def other_songs(songs: list[str]) -> list[int | None]:
    """Return, for each clip, by its song, the next one (cyclically) of another song; None where there is none."""
    n = len(songs)
    return [next((j % n for j in range(i + 1, i + n) if songs[j % n] != songs[i]), None) for i in range(n)]


def _select(batch: CodeBatch, rows: Tensor) -> CodeBatch:
    labels = {name: classes[rows] for name, classes in batch.labels.items()}
    timelines = {name: values[rows] for name, values in batch.timelines.items()}
    return CodeBatch(batch.context[rows], batch.target[rows], batch.valid[rows], labels, timelines)


@contextmanager
def nothing_withheld(model: Model) -> Iterator[None]:
    """Disable the dropping of conditions within the block."""
    conditions = model.conditions
    model.conditions = conditions.without_dropout()
    try:
        yield
    finally:
        model.conditions = conditions
