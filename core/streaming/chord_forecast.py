"""Forecast of chords from those recognised so far: repeated where the music repeats, else the last chord held."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from attrs import define, evolve, field

from accomp.core.music.annotations import Annotations, Beats, Span
from accomp.core.music.timelines import beat_at

LONGEST = 64
"""Longest period in beats after which music may repeat: 16 bars of four."""
MOST_COMPARED, LEAST_COMPARED = 32, 4
"""Most and fewest beats that are compared with those a period before."""
PAIR = 2
"""The period is a multiple of this number of beats where bars are unknown."""
_HISTORY = LONGEST + MOST_COMPARED
_TICK = 1e-4  # s


@define(eq=False)
class ChordForecast:
    """A Forecast for chords (followed_timeline.py).

    The chord of a future beat is that of a period before, of the period at which the last beats agree best with those
    so far before them. Where they agree no better than at the distance from the new beat to the recognised ones, the
    last chord is held. Without beats it is always held.

    Attributes:
        beats: start frame of a chunk -> beats known when it is drawn; None without any.
        frame_rate, frames: of the codec a second, and of a chunk.
    """

    beats: Callable[[int], Beats | None]
    frame_rate: float
    frames: int
    _past: deque[float] = field(factory=lambda: deque(maxlen=_HISTORY + 1), init=False)  # beats until now (s)
    _chords: list[str] = field(factory=list, init=False)  # chords of the beats that are complete
    _repeats: dict[int, str] = field(factory=dict, init=False)  # beats after the last one so far -> repeated chord
    _state: tuple[float, float] | None = field(default=None, init=False)  # key of these two caches

    def begin(self) -> None:
        """Start a new session."""
        self._past.clear()
        self._state = None

    def __call__(self, chunk: int, known: Annotations, now: float) -> Annotations:
        """Chords of a chunk's frames, as spans that cover them."""
        if not known.chords:
            return known
        start, end = chunk / self.frame_rate, (chunk + self.frames) / self.frame_rate
        beats = self.beats(chunk)
        if beats is None:
            return evolve(known, chords=(Span(start - _TICK, end, known.chords[-1].chord),))
        self._record(beats, known.chords[0].start, now)
        return evolve(known, chords=self._future_chords(beats, known.chords, start, end))

    def _record(self, beats: Beats, since: float, now: float) -> None:
        """Record the beats up to now: each once, at its first position; those before any was known, from `since` on."""
        last, following = _around(beats, now)
        length = following - last
        if not self._past:
            count = min(_HISTORY, max(0, int((last - since) / length)))
            self._past.extend(last - i * length for i in range(count, -1, -1))
        missed = max(0, round((last - self._past[-1]) / length))
        self._past.extend(last - i * length for i in range(missed - 1, -1, -1))

    def _future_chords(self, beats: Beats, chords: tuple[Span, ...], start: float, end: float) -> tuple[Span, ...]:
        at, spans = _around(beats, start)[0], []
        while at < end:
            following = _around(beats, at + _TICK)[1]
            beyond_now = round((at - self._past[-1]) / (following - at))
            spans.append(Span(at, following, self._chord(beyond_now, beats, chords)))
            at = following
        return tuple(spans)

    def _chord(self, beyond_now: int, beats: Beats, chords: tuple[Span, ...]) -> str:
        """Chord of the beat `beyond_now` beats after the last one so far."""
        state = self._past[-1], chords[-1].end
        if state != self._state:
            self._state, self._repeats, self._chords = state, {}, self._of_beats(chords)
        if beyond_now not in self._repeats:
            ahead = max(1, beyond_now + len(self._past) - len(self._chords))
            step = beats.meter[-1] if beats.meter else PAIR
            self._repeats[beyond_now] = _repeated(self._chords, ahead, step) or chords[-1].chord
        return self._repeats[beyond_now]

    def _of_beats(self, chords: tuple[Span, ...]) -> list[str]:
        """Chords of the beats that are complete, by their middle; "" before the first."""
        middles = [(a + b) / 2 for a, b in pairwise(self._past) if b <= chords[-1].end]
        at = np.searchsorted([span.start for span in chords], middles, side="right") - 1
        return [chords[i].chord if i >= 0 else "" for i in at]


def _repeated(chords: list[str], ahead: int, step: int) -> str:
    """Chord `ahead` beats after the last of `chords`, if it repeats after a multiple of `step` beats; else ""."""
    codes = np.unique(chords, return_inverse=True)[1] if chords else np.zeros(0, int)
    best, found = _agreement(codes, max(1, ahead - 1)), ""
    for back in range(-(-ahead // step) * step, min(LONGEST, len(chords) - LEAST_COMPARED) + 1, step):
        if (agreement := _agreement(codes, back)) > best:
            best, found = agreement, chords[ahead - 1 - back]
    return found


def _agreement(codes: np.ndarray, back: int) -> float:
    """Share of the last beats that equal those `back` before them, by Laplace's rule; -1 for too few beats."""
    same = codes[back:][-MOST_COMPARED:] == codes[: max(0, len(codes) - back)][-MOST_COMPARED:]
    return (int(same.sum()) + 1) / (len(same) + 2) if len(same) >= LEAST_COMPARED else -1.0


def _around(beats: Beats, time: float) -> tuple[float, float]:
    """Times of the last beat up to `time` and of the next one (s)."""
    _, phase, length = beat_at(beats, np.array([time]))
    last = float(time - phase[0] * length[0])
    return last, last + float(length[0])
