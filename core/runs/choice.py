"""The checkpoint of a run that was chosen by what it plays: RUN/chosen.json, written by `accomp choose`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accomp.core.console import say
from accomp.core.errors import CheckpointError
from accomp.core.files import read_record, write_atomic

FILE = "chosen.json"
AGAIN = "run `accomp choose SPEC` again, or remove the file to play the checkpoint of the lowest validation loss"


def chosen_step(run: Path) -> int | None:
    """Return the step of the chosen checkpoint, None where there is none. Raises CheckpointError for a damaged file."""
    if not (run / FILE).exists():
        return None
    step = read_record(run / FILE, AGAIN, error=CheckpointError).get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise CheckpointError(f"the chosen step is {step!r}; expected a number of steps; {AGAIN} @ {run / FILE}")
    return step


def write_choice(run: Path, step: int, candidates: Mapping[int, Mapping[str, Any]]) -> None:
    """Record the chosen step, and the scores of every checkpoint that it was chosen from."""
    scores = {str(one): dict(score) for one, score in candidates.items()}
    write_atomic(run / FILE, json.dumps({"step": step, "candidates": scores}, indent=1) + "\n")


def drop_choice(run: Path) -> None:
    """Remove the choice, if there is one, since training has gone on; says so."""
    if (run / FILE).exists():
        (run / FILE).unlink()
        say("the choice of a checkpoint is dropped, since training goes on; `accomp choose` makes another")
