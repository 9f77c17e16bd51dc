"""The metric `cocola`: coherence of stem and context by the published network (arXiv 2404.16969)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from attrs import field, frozen
from attrs import validators as v

from accomp.core.types import TokenSpace
from accomp.plugins.metrics.cocola.files import load, save
from accomp.plugins.metrics.cocola.network import CocolaNetwork
from accomp.plugins.metrics.window_scores import SILENCE_DB, WindowScores


class Cocola(WindowScores):
    """COCOLA score of context and stem; higher is better, unbounded. See WindowScores.

    In the modes "harmonic" and "percussive" the input is that part only (the other is 0 dB everywhere, like silence).
    The public code's `score` takes a mode and ignores it, so its numbers are those of "both".
    """

    @frozen(kw_only=True)
    class Config:
        """weights: the public checkpoint converted by `accomp cocola convert`; modes: parts to score;
        silence_db: RMS (dB re full scale) up to which a window is silent."""

        weights: str
        modes: tuple[Literal["both", "harmonic", "percussive"], ...] = field(
            default=("both", "harmonic", "percussive"), validator=v.min_len(1)
        )
        silence_db: float = field(default=SILENCE_DB, validator=v.lt(0.0))

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Return untrained weights for the conformance kit."""
        path = folder / "cocola.safetensors"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            save(CocolaNetwork().state_dict(), path, {})
        return cls.Config(weights=str(path))

    def __init__(self, config: Config, space: TokenSpace | None = None):
        """Raises CheckpointError if the weights are missing or of another network."""
        path = Path(config.weights).expanduser()
        network, fingerprint = load(path)
        super().__init__("cocola", network, fingerprint, config.modes, config.silence_db)
        self.provenance = f"COCOLA (arXiv 2404.16969), {path.name} ({fingerprint}); its licence is its owners'"
