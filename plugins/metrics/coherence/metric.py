"""The metric `coherence`: temporal fit of stem and context by a small network, included with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from attrs import field, frozen
from attrs import validators as v

from accomp.core.types import TokenSpace
from accomp.plugins.metrics.coherence.files import load, shipped
from accomp.plugins.metrics.window_scores import SILENCE_DB, WindowScores


class Coherence(WindowScores):
    """Temporal fit of a stem to its context; higher is better, unbounded. See WindowScores.

    Uses COCOLA's features and a bilinear score with another, small network, trained with `accomp coherence train` on
    mini-slakh. Not comparable with published COCOLA scores. It is sensitive to rhythm and hardly to harmony: see the
    measurements in docs/guides/metrics.md.
    """

    best: ClassVar[dict[str, float]] = {}
    answers: ClassVar[dict[str, str]] = {"coherence": "together with its context"}

    @frozen(kw_only=True)
    class Config:
        """weights: "default" (shipped) or a file written by `accomp coherence train`; modes: parts to score;
        silence_db: RMS (dB re full scale) up to which a window is silent."""

        weights: str = "default"
        modes: tuple[Literal["both", "harmonic", "percussive"], ...] = field(
            default=("both", "harmonic", "percussive"), validator=v.min_len(1)
        )
        silence_db: float = field(default=SILENCE_DB, validator=v.lt(0.0))

    def __init__(self, config: Config, space: TokenSpace | None = None):
        """Raises CheckpointError if the weights are missing or of another network."""
        path = shipped() if config.weights == "default" else Path(config.weights).expanduser()
        network, fingerprint = load(path)
        super().__init__("coherence", network, fingerprint, config.modes, config.silence_db)
        self.provenance = (
            f"coherence: accomp's own network, {path.name} ({fingerprint}, MIT); not comparable with published COCOLA "
            "scores"
        )
