"""Onset F-measure of decoded music against the original."""

from __future__ import annotations

import numpy as np

from accomp.plugin.sound import resample
from accomp.plugins.tokenizers.codec.networks.quantizer import quiet_import

TOLERANCE = 0.05
"""Largest distance (s) of matching onsets, as in MIREX."""
_RATE = 22050
"""Sample rate (Hz) of the detector's defaults."""


def onsets(sound: np.ndarray, rate: int) -> np.ndarray:
    """sound [N] at `rate` Hz -> times (s), ascending: peaks of librosa's spectral flux, by librosa's own defaults."""
    with quiet_import("finding onsets"):
        import librosa
    found: np.ndarray = librosa.onset.onset_detect(y=resample(sound, rate, _RATE), sr=_RATE, units="time")
    return found


def onset_f1(decoded: np.ndarray, original: np.ndarray, rate: int) -> float | None:
    """Both [N] at `rate` Hz -> F-measure of their onsets, matched one to one within TOLERANCE (mir_eval.onset).

    None where the original has no onset.
    """
    with quiet_import("comparing onsets"):
        from mir_eval.onset import f_measure
    wanted, got = onsets(original, rate), onsets(decoded, rate)
    if not len(wanted):
        return None
    return float(f_measure(wanted, got, window=TOLERANCE)[0]) if len(got) else 0.0
