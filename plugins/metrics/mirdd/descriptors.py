"""StemGen's descriptors of music (arXiv 2312.08723), as histograms. The paper does not specify the bins.

Each function maps the features of one clip (plugins/metrics/mirdd/extractors.py) to the bins to increment: one for
descriptors with a single value per clip, many for those with many (notes, chords). A clip without a value, such as the
pitch range without notes, has a bin of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from attrs import frozen

LOWEST, KEYS = 21, 88
"""MIDI pitches of a piano, the range of basic-pitch."""
MANY = 12
"""Counts from here on share the last bin."""
DENSITY_WINDOW = 0.6
"""Seconds."""


@frozen
class Descriptor:
    """One descriptor: its extractor, its number of bins, and the function to bins of a clip, [m] int."""

    needs: str
    bins: int
    of: Callable[[np.ndarray], Sequence[int]]


def key(heard: np.ndarray) -> list[int]:
    """C major to B major, C minor to B minor."""
    return [int(heard[0])]


def pitch_range(notes: np.ndarray) -> list[int]:
    """Semitones from the lowest to the highest note, in bins of 6; the last bin: no notes."""
    return [int(np.ptp(notes[:, 2])) // 6] if len(notes) else [KEYS // 6 + 1]


def pitch_class_count(notes: np.ndarray) -> list[int]:
    """Different pitch classes, 0 to 12."""
    return [len(np.unique(notes[:, 2].astype(int) % 12))]


def onset_density(onsets: np.ndarray) -> list[int]:
    """The largest number of percussive onsets within 0.6 s."""
    begun = np.searchsorted(onsets, onsets + DENSITY_WINDOW + 1e-9, side="right") - np.arange(len(onsets))
    return [min(int(begun.max(initial=0)), MANY)]


def beats_per_bar(bars: np.ndarray) -> list[int]:
    """2 to 6 (bins 0 to 4), the highest position of a beat; the last bin: no whole bar."""
    return [int(bars[:, 1].max()) - 2] if len(bars) and bars[:, 1].max() >= 2 else [5]


def chord_variety(chords: np.ndarray) -> list[int]:
    """Different triads."""
    return [min(len(np.unique(_triads(chords))), MANY)]


def mode_alternation(chords: np.ndarray) -> list[int]:
    """Share of triad changes between major and minor, in bins of 0.2; the last bin: no change."""
    triads = _triads(chords)
    before, after = triads[:-1], triads[1:]
    changed = before != after
    if not changed.any():
        return [5]
    share = float(np.mean((before >= 12)[changed] != (after >= 12)[changed]))
    return [min(int(share * 5 + 1e-9), 4)]


def note_pitch(notes: np.ndarray) -> list[int]:
    """Pitch of every note, in semitones."""
    return [int(pitch) - LOWEST for pitch in notes[:, 2]]


def pitch_class(notes: np.ndarray) -> list[int]:
    """Pitch class of every note."""
    return [int(pitch) % 12 for pitch in notes[:, 2]]


def chord_triad(chords: np.ndarray) -> list[int]:
    """Triad of every chord segment; the last bin: no chord."""
    return [int(chord) if chord >= 0 else 24 for chord in chords[:, 2]]


DESCRIPTORS = {
    "key": Descriptor("key", 24, key),
    "pitch_range": Descriptor("notes", KEYS // 6 + 2, pitch_range),
    "pitch_class_count": Descriptor("notes", 13, pitch_class_count),
    "onset_density": Descriptor("onsets", MANY + 1, onset_density),
    "beats_per_bar": Descriptor("bars", 6, beats_per_bar),
    "chord_variety": Descriptor("chords", MANY + 1, chord_variety),
    "mode_alternation": Descriptor("chords", 6, mode_alternation),
    "note_pitch": Descriptor("notes", KEYS, note_pitch),
    "pitch_class": Descriptor("notes", 12, pitch_class),
    "chord_triad": Descriptor("chords", 25, chord_triad),
}
"""By name. The eleventh of the paper, structure labels, is omitted: no open extractor of section names (intro,
verse) has public weights, and clusters of similar bars have no names."""


def histogram(bins: Sequence[int], size: int) -> np.ndarray:
    """Return counts [size]."""
    return np.bincount(np.asarray(bins, dtype=np.int64), minlength=size).astype(np.float64)


def divergence(counts: np.ndarray, reference: np.ndarray, smoothing: float) -> float:
    """Return KL(p || q) in nats, p of counts [n], q of reference [n]: sum of p ln(p / q), `smoothing` added to all."""
    p, q = ((c + smoothing) / (c + smoothing).sum() for c in (counts, reference))
    return max(0.0, float((p * np.log(p / q)).sum()))


def _triads(chords: np.ndarray) -> np.ndarray:
    return chords[chords[:, 2] >= 0, 2].astype(int)
