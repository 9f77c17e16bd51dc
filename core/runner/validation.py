"""How well the model predicts songs it was not trained on, and how much of that it owes to what it hears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor

from accomp.core.interfaces import Objective
from accomp.core.model import Model
from accomp.core.runner.batches import ClipLoader
from accomp.core.spec import Conditions, ContextCondition, LabelCondition
from accomp.core.types import Batch, CodeBatch


class Validation:
    """The loss on the same clips each time, with nothing withheld.

    Every process of a run does all of it, so that nothing has to be exchanged.
    """

    def __init__(self, loader: ClipLoader, batches: int, seed: int):
        """`loader` must give all clips to each process. `seed` is of what the objective draws."""
        self._seed = seed
        self._batches = list(loader.fixed(batches))
        self._partners = other_songs([clip.pair.track for clip in loader.fixed_clips(batches)])
        self._contexts = torch.cat([batch.context for batch in self._batches])

    def run(self, model: Model, objective: Objective, prepare: Callable[[CodeBatch], Batch]) -> dict[str, Any]:
        """`loss` (nats a token), its `parts`, and `context_gain`; the model is left in training mode.

        The gain is by how much the loss rises when each clip is predicted with another song's context: nothing for a
        model that does not listen, None where all clips are of one song.
        """
        total, own, others = _Mean(), _Mean(), _Mean()
        model.eval()
        with torch.no_grad(), _nothing_withheld(model):
            first = 0
            for batch in self._batches:
                partners = self._partners[first : first + len(batch.context)]
                first += len(batch.context)
                total.add(batch, self._loss(batch, model, objective, prepare))
                rows = torch.tensor([row for row, partner in enumerate(partners) if partner is not None])
                if len(rows):
                    paired = _select(batch, rows)
                    own.add(paired, self._loss(paired, model, objective, prepare))
                    swapped = self._contexts[[partner for partner in partners if partner is not None]]
                    others.add(paired, self._loss(attrs.evolve(paired, context=swapped), model, objective, prepare))
        model.train()
        gain = others.values["loss"] - own.values["loss"] if own.weight else None
        loss = total.values.pop("loss")
        return {"loss": loss, "parts": total.values, "context_gain": gain}

    def _loss(
        self, batch: CodeBatch, model: Model, objective: Objective, prepare: Callable[[CodeBatch], Batch]
    ) -> dict[str, float]:
        rng = torch.Generator().manual_seed(self._seed)
        loss = objective.loss(model, prepare(batch), model.clock, rng)
        return {"loss": float(loss.total), **{name: float(part) for name, part in loss.parts.items()}}


class _Mean:
    """Means over batches, each weighted with its valid frames."""

    def __init__(self) -> None:
        self.weight = 0.0
        self.values: dict[str, float] = {}

    def add(self, batch: CodeBatch, values: dict[str, float]) -> None:
        weight = float(batch.valid.sum())
        self.weight += weight
        for name, value in values.items():
            before = self.values.get(name, 0.0)
            self.values[name] = before + (value - before) * weight / self.weight


def other_songs(songs: list[str]) -> list[int | None]:
    """For each clip, by the song it is of, the next one (going round) that is of another; None where there is none."""
    n = len(songs)
    return [next((j % n for j in range(i + 1, i + n) if songs[j % n] != songs[i]), None) for i in range(n)]


def _select(batch: CodeBatch, rows: Tensor) -> CodeBatch:
    labels = {name: classes[rows] for name, classes in batch.labels.items()}
    return CodeBatch(batch.context[rows], batch.target[rows], batch.valid[rows], labels)


@contextmanager
def _nothing_withheld(model: Model) -> Iterator[None]:
    """The model hears its context and sees its labels in every clip while the block runs."""
    conditions = model.conditions
    labels = {name: LabelCondition(label.classes, drop=0.0) for name, label in conditions.labels.items()}
    model.conditions = Conditions(ContextCondition(drop=0.0), labels)
    try:
        yield
    finally:
        model.conditions = conditions
