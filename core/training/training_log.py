"""The log of training: losses.jsonl, the loggers, and the hooks of plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric import Fabric

from accomp.core.registry import Registry
from accomp.core.runs.history import append_losses


class TrainingLog:
    """A log to which the first process writes, once for all processes."""

    def __init__(self, folder: Path, registry: Registry, fabric: Fabric):
        self._folder, self._registry, self._fabric = folder, registry, fabric

    def record(self, kind: str, step: int, numbers: dict[str, Any]) -> None:
        """Write a record of `kind` ("train", "validation", "unigram", "speed") after `step` optimizer steps."""
        if not self._fabric.is_global_zero:
            return
        append_losses(self._folder, kind, step, numbers)
        flat = {**numbers, **numbers.get("parts", {})}
        flat = {f"{kind}/{name}": value for name, value in flat.items() if isinstance(value, float)}
        self._fabric.log_dict(flat, step=step)
        self._registry.tell("accomp_step", run=self._folder, step=step, losses=flat)
