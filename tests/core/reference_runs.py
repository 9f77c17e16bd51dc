"""Checkpoints of the reference, imported into runs of a codec that has their space and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from accomp.core.component import Component
from accomp.core.model.model import Model
from accomp.core.registry import Registry
from accomp.core.runs.checkpoint import load_run
from accomp.core.spec.schema import structure
from accomp.core.types import TokenSpace
from accomp.plugins.importers.stream_music_gen.command import import_run

LIKE = {
    "corpus": {"plugin": "slakh2100", "root": "nowhere"},
    "store": {"path": "nowhere.zarr"},
    "tokenizer": {"plugin": "named"},
    "clock": {"t_f": 7},
    "model": {"width": 8},
    "fuser": {"plugin": "film"},
    "backbone": {"plugin": "llama", "depth": 1, "heads": 2},
    "objective": {"plugin": "ar"},
    "sampler": {"plugin": "greedy"},
    "train": {"steps": 10, "batch": 2, "lr": 1e-3, "frames": 64},
}
"""An experiment whose model is of no use to the ones imported."""


class Named:
    """A codec's name and space; it cannot code."""

    name = "named"
    fingerprint = "named"

    @frozen
    class Config:
        codebooks: int = 4
        codebook_size: int = 32
        latent_dim: int = 24

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        return TokenSpace(32000, 640, config.codebooks, config.codebook_size, config.latent_dim)

    def __init__(self, config: Config):
        self.space = self.space_of(config)

    def to(self, device: torch.device | str) -> Named:
        return self


def registry() -> Registry:
    """The built-in parts and this codec."""
    found = Registry(third_party=False)
    row = Component("tokenizer", "named", f"{__name__}:Named")
    found._rows[row.kind, row.name] = row
    return found


def saved(weights: dict[str, Tensor], path: Path, *, prefix: str = "model.", **more: Any) -> Path:
    """A checkpoint file of weights of `reference_arithmetic`; `more` stands beside them in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {f"{prefix}{name}": weight for name, weight in weights.items()}, **more}, path)
    return path


def imported(
    file: Path, folder: Path, *, scale: float = 10.0, t_f: int | None = None, k: int | None = None, **sections: Any
) -> Model:
    """The model of the run that the import makes in `folder`; `sections` stand in for those of LIKE."""
    like = structure({**LIKE, **sections}, registry())
    import_run(file, like, folder, registry(), scale=scale, t_f=t_f, k=k)
    return load_run(folder, registry()).model
