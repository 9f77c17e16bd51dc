"""The log of training: losses.jsonl, the loggers, the hooks of plugins, and the progress bar."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric

from accomp.core.console import Advance, progress
from accomp.core.registry import Registry
from accomp.core.runs.history import append_losses
from accomp.core.spec.sections import TrainSpec


class TrainingLog:
    """A log to which the first process writes, once for all processes."""

    def __init__(self, folder: Path, registry: Registry, fabric: Fabric):
        self._folder, self._registry, self._fabric = folder, registry, fabric

    def progress(self, train: TrainSpec) -> AbstractContextManager[Advance]:
        """Show the progress, by steps or by seconds, in the first process."""
        if self._fabric.is_global_zero:
            return progress("train", 60 * train.minutes if train.minutes else train.steps)
        return nullcontext(lambda units=1.0, *, note="": None)

    def record(self, kind: str, step: int, numbers: dict[str, Any]) -> None:
        """Write a record of `kind` ("train", "validation", "unigram", "speed") after `step` optimizer steps."""
        if not self._fabric.is_global_zero:
            return
        append_losses(self._folder, kind, step, numbers)
        flat = {**numbers, **numbers.get("parts", {})}
        flat = {f"{kind}/{name}": value for name, value in flat.items() if isinstance(value, float)}
        self._fabric.log_dict(flat, step=step)
        self._registry.tell("accomp_step", run=self._folder, step=step, losses=flat)
