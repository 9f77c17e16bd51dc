"""What a training left in its run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from accomp.core.runs.checkpoint import WEIGHTS, latest_checkpoint, load_training


def state_of(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and training state of the newest checkpoint."""
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    return load_file(checkpoint.folder / WEIGHTS), load_training(checkpoint)
