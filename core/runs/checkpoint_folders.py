"""Folders of checkpoints in a run folder: RUN/checkpoints/step_000500. Other names are ignored."""

from __future__ import annotations

import re
from pathlib import Path


def checkpoint_folder(run: Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step, which need not exist."""
    return run / "checkpoints" / f"step_{step:06d}"


def checkpoint_steps(run: Path) -> list[int]:
    """List the steps of the checkpoints, ascending."""
    return sorted(step for path in _inside(run) if (step := _step(run, path)) is not None)


def strays(run: Path) -> list[Path]:
    """List paths among the checkpoints whose names are not those of checkpoints, such as copies; hidden ones are
    ignored.
    """
    return [path for path in _inside(run) if _step(run, path) is None and not path.name.startswith(".")]


def _inside(run: Path) -> list[Path]:
    folder = run / "checkpoints"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _step(run: Path, path: Path) -> int | None:
    found = re.fullmatch(r"step_([0-9]{6,18})", path.name)
    if found is None or not path.is_dir() or checkpoint_folder(run, step := int(found[1])) != path:
        return None
    return step
