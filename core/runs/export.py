"""`accomp export`: the model of a run as a small folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import torch
from safetensors.torch import load_file, save_file

from accomp.core.console import say
from accomp.core.errors import UserError
from accomp.core.files import folder_atomic, hash_file
from accomp.core.runs.checkpoint import CARD as CHECKPOINT
from accomp.core.runs.checkpoint import WEIGHTS, Checkpoint
from accomp.core.runs.checkpoint_folders import checkpoint_folder
from accomp.core.runs.models import CARD
from accomp.core.runs.player import playing_checkpoint
from accomp.core.spec.sections import RunSpec

MACHINE = ("accelerator", "devices", "strategy", "precision", "threads", "logger")
"""Keys of [run] that describe the machine of the training."""


def export(run: Path, out: Path, *, card: Path | None = None, whole: bool = False) -> None:
    """Write the model that plays in a run folder into the new folder `out`.

    Weights are converted to float16, unless `whole`; the training state is left out. `card`: a JSON file that describes
    the model, with a "summary" at least; a minimal one is written where not given. Raises CheckpointError where nothing
    is trained, UserError for an invalid card and an existing `out`.
    """
    checkpoint = playing_checkpoint(run)
    if out.exists():
        raise UserError(f"--out is there already; name a folder that is not @ {out}")
    known = _card(card) if card else {"summary": f"the model of {run.resolve().name} after {checkpoint.step} steps"}
    with folder_atomic(out) as work:
        folder = checkpoint_folder(work, checkpoint.step)
        folder.mkdir(parents=True)
        weights = load_file(checkpoint.folder / WEIGHTS)
        if not whole:
            weights = {name: _half(name, weight) for name, weight in weights.items()}
        save_file(weights, folder / WEIGHTS)
        (folder / CHECKPOINT).write_text(_described(checkpoint, folder / WEIGHTS), encoding="utf-8")
        (work / CARD).write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    size = (checkpoint_folder(out, checkpoint.step) / WEIGHTS).stat().st_size
    say(f"{out}: step {checkpoint.step}, {size / 1e6:.1f} MB; RUN may be this folder wherever a run is asked for")


def _half(name: str, weight: torch.Tensor) -> torch.Tensor:
    """Convert to float16. Raises UserError for a weight beyond its range."""
    half = weight.half() if weight.is_floating_point() else weight
    if not torch.isfinite(half).all():
        raise UserError(f"weight {name!r} has numbers that float16 does not; export it whole: --whole")
    return half


def _described(checkpoint: Checkpoint, weights: Path) -> str:
    """Return the checkpoint's description, reduced to the weights and without keys of the machine."""
    description = json.loads((checkpoint.folder / CHECKPOINT).read_text(encoding="utf-8"))
    description["files"] = {WEIGHTS: {"bytes": weights.stat().st_size, "sha256": hash_file(weights)}}
    run = attrs.fields_dict(RunSpec)
    description["spec"]["run"] = {
        key: run[key].default if key in MACHINE else value for key, value in description["spec"]["run"].items()
    }
    return json.dumps(description, indent=2) + "\n"


def _card(path: Path) -> dict[str, object]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"unreadable card ({error}) @ --card {path}") from None
    if not isinstance(card, dict) or not str(card.get("summary", "")).strip():
        raise UserError(f'expected a JSON object with a "summary" @ --card {path}')
    return card
