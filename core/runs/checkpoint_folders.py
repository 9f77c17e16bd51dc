"""Where the checkpoints of a run folder lie: RUN/checkpoints/step_000500. Whatever else lies there is none."""

from __future__ import annotations

import re
from pathlib import Path


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies, or would."""
    return run / "checkpoints" / f"step_{step:06d}"


def checkpoint_steps(run: Path) -> list[int]:
    """The steps after which there are checkpoints, ascending."""
    return sorted(step for path in _inside(run) if (step := _step(run, path)) is not None)


def strays(run: Path) -> list[Path]:
    """What lies among the checkpoints and is none by its name, such as a copy of one; hidden things do not count."""
    return [path for path in _inside(run) if _step(run, path) is None and not path.name.startswith(".")]


def _inside(run: Path) -> list[Path]:
    folder = run / "checkpoints"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _step(run: Path, path: Path) -> int | None:
    found = re.fullmatch(r"step_([0-9]{6,18})", path.name)
    if found is None or not path.is_dir() or checkpoint_folder(run, step := int(found[1])) != path:
        return None
    return step
