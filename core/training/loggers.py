"""Loggers of Lightning for training curves, besides losses.jsonl; none needs an account."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from lightning.fabric.loggers import TensorBoardLogger

from accomp.core.compute.devices import number_of
from accomp.core.errors import PluginError
from accomp.core.spec.schema import Spec


def loggers_of(spec: Spec, run: Path, step: int) -> list[Any]:
    """Create the logger that `run.logger` names, writing to run/logs from `step` on; later steps are removed.

    "wandb" keeps its files there too, for `wandb sync` to upload, unless WANDB_MODE is "online". Raises PluginError
    where it is not installed.
    """
    if spec.run.logger == "none":
        return []
    if spec.run.logger == "tensorboard":
        return [TensorBoardLogger(run, name="logs", version="", purge_step=step + 1 if step else None)]
    if importlib.util.find_spec("wandb") is None:
        raise PluginError("run.logger 'wandb' needs the library wandb; run: pip install 'accomp[wandb]'")
    from lightning.pytorch.loggers import WandbLogger

    id = f"{number_of(run.resolve()):x}"
    folder = run / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE", "offline")
    return [WandbLogger(name=run.name, project="accomp", save_dir=folder, version=id, mode=mode, resume="allow")]
