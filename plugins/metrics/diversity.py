"""Spectral diversity over time and between takes, a measure of mode collapse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from attrs import frozen

from accomp.core.audio.loudness import a_weighted_level, nonsilent
from accomp.core.errors import EmptyClip
from accomp.core.types import Take, TokenSpace

RATE, HOP, WINDOW = 16000, 1600, 4096
"""Sample rate (Hz), window and hop (samples): ten spectra a second of 0.25 s each."""
BANDS = 22
"""Third octaves from 50 Hz to 8 kHz."""


class Diversity:
    """Jensen-Shannon divergence of spectra, over the time of a take and between takes, in bits.

    p_t is the share of each third octave (50 Hz to 8 kHz) in the power of frame t, over the non-silent frames of a
    stem (ten a second); P_i is the mean of p_t over take i, H the entropy in bits. Then, with means over i and t,

        over_time      mean_i (H(P_i) - mean_t H(p_t))      0 for one sound that never changes
        between_takes  H(mean_i P_i) - mean_i H(P_i)        0 where all takes have the same sound

    Both are at most log2(22) = 4.5 and independent of level. Compare with the anchors: a collapsed model lies well
    below the true stems. A silent stem has no spectrum and counts as empty. `between_takes` needs two takes, grows with
    the number of instruments among them, and is comparable within a class only.
    """

    best: ClassVar[dict[str, float]] = {}
    interval: ClassVar[str] = "jackknife"
    as_played: ClassVar[bool] = True
    sample_rate = RATE

    @frozen
    class Config:
        """No options."""

    def __init__(self, config: Config | None = None, space: TokenSpace | None = None):
        edges = np.geomspace(50.0, RATE / 2, BANDS + 1)
        band = np.digitize(np.fft.rfftfreq(WINDOW, 1 / RATE), edges) - 1
        self._bands = (band == np.arange(BANDS)[:, None]).astype(np.float64)  # [BANDS, bins]
        self._takes: dict[str, tuple[float, np.ndarray]] = {}  # id -> over_time, P_i

    def fresh(self) -> Diversity:
        """Return an empty metric for another set of takes."""
        return Diversity()

    def update(self, take: Take) -> None:
        """Add a take. Raises EmptyClip for a silent stem; ValueError for NaN, under 0.3 s, or a known id."""
        if take.id in self._takes:
            raise ValueError(f"take '{take.id}' was given twice")
        if not np.isfinite(take.stem).all():
            raise ValueError("the stem holds NaN or Inf")
        if len(take.stem) < WINDOW:
            raise ValueError(f"the stem lasts {len(take.stem) / RATE:.2f} s; a spectrum needs {WINDOW / RATE:.2f} s")
        shares = self._shares(take.stem)
        if not len(shares):
            raise EmptyClip("the stem is silent")
        mean = shares.mean(axis=0)
        self._takes[take.id] = float(entropy(mean) - entropy(shares).mean()), mean

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """Return `over_time` and, from two takes on, `between_takes`. Raises ValueError without takes."""
        chosen = [self._takes[id] for id in (self._takes if takes is None else takes)]
        if not chosen:
            raise ValueError("diversity was given no take")
        found = {"over_time": float(np.mean([change for change, _ in chosen]))}
        if len(chosen) > 1:
            means = np.stack([mean for _, mean in chosen])
            found["between_takes"] = float(entropy(means.mean(axis=0)) - entropy(means).mean())
        return found

    def per_take(self) -> dict[str, dict[str, float]]:
        """Take id -> `over_time`."""
        return {id: {"over_time": change} for id, (change, _) in self._takes.items()}

    def _shares(self, stem: np.ndarray) -> np.ndarray:
        """stem [N] -> p_t [n, BANDS] of the n non-silent frames."""
        frames = np.lib.stride_tricks.sliding_window_view(np.asarray(stem, dtype=np.float64), WINDOW)[::HOP]
        middle = (np.arange(len(frames)) * HOP + WINDOW // 2) * 50 // RATE
        heard = frames[nonsilent(a_weighted_level(stem, RATE))[middle]]
        power = np.abs(np.fft.rfft(heard * np.hanning(WINDOW))) ** 2 @ self._bands.T
        power = power[power.sum(axis=1) > 0]
        return power / power.sum(axis=1, keepdims=True)


def entropy(p: np.ndarray) -> np.ndarray:
    """Distributions [..., n] -> entropies [...] in bits."""
    return -(p * np.log2(np.maximum(p, 1e-300))).sum(axis=-1)
