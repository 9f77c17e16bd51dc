"""Does the stem sound where the musicians' does? A model that has collapsed into silence is seen here first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from attrs import field, frozen
from attrs import validators as v

from accomp.plugin import EmptyClip, Take, TokenSpace
from accomp.plugin.sound import a_weighted_level, nonsilent

RATE = 16000
"""Hz; levels are measured 50 times a second."""


class SilenceShare:
    """Shares of frames (50 a second) in which the stem and the true stem do not agree on whether anything sounds.

        silence_share   of the frames in which the true stem sounds, those in which the stem is silent
        intrusion_share  of the frames in which the true stem is silent, those in which the stem sounds

    A frame is silent where its A-weighted level is not above `silence_db`, at the level at which it was played. A take
    whose true stem is silent throughout has no `silence_share` to tell, and is not judged; one whose true stem never
    rests counts in `silence_share` alone.
    """

    best: ClassVar[dict[str, float]] = {"silence_share": 0.0}
    needs: ClassVar[frozenset[str]] = frozenset({"truth"})
    as_played: ClassVar[bool] = True
    sample_rate = RATE

    @frozen
    class Config:
        """`silence_db`: dB re full scale, A-weighted, up to which a frame is silent."""

        silence_db: float = field(default=-60.0, validator=v.and_(v.gt(-100.0), v.lt(0.0)))

    def __init__(self, config: Config, space: TokenSpace | None = None):
        self._config = config
        self._takes: dict[str, dict[str, float]] = {}

    def fresh(self) -> SilenceShare:
        """An empty metric for another set of takes."""
        return SilenceShare(self._config)

    def update(self, take: Take) -> None:
        """Judge a take. Raises EmptyClip where the true stem is silent; ValueError for one without it or a known id."""
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
        """Means over these takes, each over those that have it. Raises ValueError where there is none."""
        chosen = [self._takes[id] for id in (self._takes if takes is None else takes)]
        if not chosen:
            raise ValueError("silence_share was given no take")
        names = dict.fromkeys(name for take in chosen for name in take)
        return {name: float(np.mean([take[name] for take in chosen if name in take])) for name in names}

    def per_take(self) -> dict[str, dict[str, float]]:
        """Take id -> `silence_share`, and `intrusion_share` where the true stem rests."""
        return {id: dict(values) for id, values in self._takes.items()}

    def _sounds(self, audio: np.ndarray) -> np.ndarray:
        if not np.isfinite(audio).all():
            raise ValueError("the audio holds NaN or Inf")
        return nonsilent(a_weighted_level(audio, RATE), self._config.silence_db)
