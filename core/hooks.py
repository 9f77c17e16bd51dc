"""Hooks that a package may implement: module-level functions marked with `hookimpl`.

Packages are found through the entry-point group "accomp"; CONTRIBUTING.md shows a complete one.
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
    """Return the components of the package. Called once a process, when the registry is built; import nothing heavy."""


@hookspec
def accomp_step(run: Path, step: int, losses: Mapping[str, float]) -> None:
    """Receive the logged losses of training, in the process that logs.

    run: the run folder. losses: numbers by name, such as "train/loss" and "validation/loss" (nats per token).
    """


@hookspec
def accomp_report(run: Path, report: Path) -> None:
    """Receive the path of a report after it was written: `run` is the run folder, `report` the HTML page."""
