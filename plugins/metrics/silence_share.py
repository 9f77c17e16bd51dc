"""Agreement of the silence of stem and true stem; detects collapse into silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from attrs import field, frozen
from attrs import validators as v

from accomp.core.audio.loudness import a_weighted_level, nonsilent
from accomp.core.errors import EmptyClip
from accomp.core.types import Take, TokenSpace

RATE = 16000
"""Sample rate (Hz); levels are measured at 50 Hz."""


class SilenceShare:
    """Shares of frames (50 a second) in which only one of stem and true stem is silent.

        silence_share    share of silent stem frames among the frames in which the true stem sounds
        intrusion_share  share of sounding stem frames among the frames in which the true stem is silent

    A frame is silent if its A-weighted level, as played, is at most `silence_db`. A take with a silent true stem is not
    scored; one whose true stem has no silent frame counts in `silence_share` only.
    """

    best: ClassVar[dict[str, float]] = {"silence_share": 0.0}
    needs: ClassVar[frozenset[str]] = frozenset({"truth"})
    as_played: ClassVar[bool] = True
    sample_rate = RATE

    @frozen
    class Config:
        """`silence_db`: highest level of a silent frame, dB re full scale, A-weighted."""

        silence_db: float = field(default=-60.0, validator=v.and_(v.gt(-100.0), v.lt(0.0)))

    def __init__(self, config: Config, space: TokenSpace | None = None):
        self._config = config
        self._takes: dict[str, dict[str, float]] = {}

    def fresh(self) -> SilenceShare:
        """Return an empty metric for another set of takes."""
        return SilenceShare(self._config)

    def update(self, take: Take) -> None:
        """Add a take. Raises EmptyClip for a silent true stem, ValueError for a missing one or a known id."""
        if take.id in self._takes:
            raise ValueError(f"take '{take.id}' was given twice")
        if take.truth is None:
            raise ValueError(f"take '{take.id}' has no true stem to compare with")
        true, stem = (self._sounds(audio) for audio in (take.truth, take.stem))
        if not true.any():
            raise EmptyClip("the true stem is silent")
        self._takes[take.id] = {"silence_share": float(1 - stem[true].mean())}
        if not true.all():
            self._takes[take.id]["intrusion_share"] = float(stem[~true].mean())

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """Return the means over these takes, each over those that have it. Raises ValueError without takes."""
        chosen = [self._takes[id] for id in (self._takes if takes is None else takes)]
        if not chosen:
            raise ValueError("silence_share was given no take")
        names = dict.fromkeys(name for take in chosen for name in take)
        return {name: float(np.mean([take[name] for take in chosen if name in take])) for name in names}

    def per_take(self) -> dict[str, dict[str, float]]:
        """Take id -> `silence_share`, and `intrusion_share` where the true stem has silence."""
        return {id: dict(values) for id, values in self._takes.items()}

    def _sounds(self, audio: np.ndarray) -> np.ndarray:
        if not np.isfinite(audio).all():
            raise ValueError("the audio holds NaN or Inf")
        return nonsilent(a_weighted_level(audio, RATE), self._config.silence_db)
