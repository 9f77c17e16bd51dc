"""The hooks a third-party package may implement: module-level functions marked with `hookimpl`.

A package is found through the entry-point group "accomp"; see CONTRIBUTING.md for a whole one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from accomp.core.component import Component

PROJECT = "accomp"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def accomp_components() -> Iterable[Component]:  # type: ignore[empty-body]  # a declaration: implementations fill it
    """The components this package provides. Called once a process, when the registry is built; import nothing heavy."""


@hookspec
def accomp_step(run: Path, step: int, losses: Mapping[str, float]) -> None:
    """Called whenever the trainer logs, in the process that logs.

    `run` is the run folder; `losses` are numbers by name, as in "train/loss" and "validation/loss" (nats per token).
    """


@hookspec
def accomp_report(run: Path, report: Path) -> None:
    """Called after the report of a run was written: `run` is the run folder, `report` the HTML page."""
