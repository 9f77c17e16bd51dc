"""Audio files, resampling and loudness."""

from __future__ import annotations

from accomp.core.audio import io
from accomp.core.audio.io import bandwidth, duration, read, resample
from accomp.core.audio.levels import SILENCE_DB
from accomp.core.audio.loudness import (
    LISTENING_LUFS,
    PEAK,
    a_weighted_level,
    loudness,
    mix_for_listening,
    nonsilent,
    silent,
)

__all__ = [
    "LISTENING_LUFS",
    "PEAK",
    "SILENCE_DB",
    "a_weighted_level",
    "bandwidth",
    "duration",
    "io",
    "loudness",
    "mix_for_listening",
    "nonsilent",
    "read",
    "resample",
    "silent",
]
