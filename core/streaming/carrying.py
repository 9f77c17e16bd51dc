"""Chords that were heard, carried forward: by what came last time round where the music repeats, else they hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from attrs import define, evolve, field

from accomp.core.music.annotations import Annotations, Beats, Span
from accomp.core.music.timelines import beat_at

LONGEST = 64
"""Beats after which music may begin again: 16 bars of four."""
COMPARED, LEAST = 32, 4
"""Beats at most, and at least, of which it is asked how they agree with those some beats before."""
PAIR = 2
"""Beats of which a period is a multiple where bars are not known."""
_KEPT = LONGEST + COMPARED
_TICK = 1e-4  # s


@define(eq=False)
class ChordForecast:
    """A Foresight for chords (following.py).

    The chord of a beat to come is that of some bars before: of so many that the last beats agree best with those so far
    before them. Where they agree no better than with the beats just as far before as the new one is ahead of what was
    heard, the chord heard last holds. Without beats it always does.

    Attributes:
        beats: what is known of the beats when the chunk that starts at a frame is drawn; None: nothing.
        frame_rate, frames: of the codec a second, and of a chunk.
    """

    beats: Callable[[int], Beats | None]
    frame_rate: float
    frames: int
    _passed: deque[float] = field(factory=lambda: deque(maxlen=_KEPT + 1), init=False)  # beats until now (s)
    _heard: list[str] = field(factory=list, init=False)  # the chords of those that were heard whole
    _found: dict[int, str] = field(factory=dict, init=False)  # beats after the last passed one -> what comes again
    _state: tuple[float, float] | None = field(default=None, init=False)  # what these two belong to

    def begin(self) -> None:
        """A new session."""
        self._passed.clear()
        self._state = None

    def __call__(self, chunk: int, known: Annotations, now: float) -> Annotations:
        """The chords of a chunk's frames, as spans that cover them."""
        if not known.chords:
            return known
        start, end = chunk / self.frame_rate, (chunk + self.frames) / self.frame_rate
        beats = self.beats(chunk)
        if beats is None:
            return evolve(known, chords=(Span(start - _TICK, end, known.chords[-1].chord),))
        self._pass(beats, known.chords[0].start, now)
        return evolve(known, chords=self._foreseen(beats, known.chords, start, end))

    def _pass(self, beats: Beats, since: float, now: float) -> None:
        """Note the beats up to now: each once, where it was when it came; those before any was known, from `since`."""
        last, following = _around(beats, now)
        length = following - last
        if not self._passed:
            count = min(_KEPT, max(0, int((last - since) / length)))
            self._passed.extend(last - i * length for i in range(count, -1, -1))
        missed = max(0, round((last - self._passed[-1]) / length))
        self._passed.extend(last - i * length for i in range(missed - 1, -1, -1))

    def _foreseen(self, beats: Beats, chords: tuple[Span, ...], start: float, end: float) -> tuple[Span, ...]:
        at, spans = _around(beats, start)[0], []
        while at < end:
            following = _around(beats, at + _TICK)[1]
            beyond_now = round((at - self._passed[-1]) / (following - at))
            spans.append(Span(at, following, self._chord(beyond_now, beats, chords)))
            at = following
        return tuple(spans)

    def _chord(self, beyond_now: int, beats: Beats, chords: tuple[Span, ...]) -> str:
        """The chord of a beat so many after the last one that has come."""
        state = self._passed[-1], chords[-1].end
        if state != self._state:
            self._state, self._found, self._heard = state, {}, self._of_beats(chords)
        if beyond_now not in self._found:
            ahead = max(1, beyond_now + len(self._passed) - len(self._heard))
            step = beats.meter[-1] if beats.meter else PAIR
            self._found[beyond_now] = _repeated(self._heard, ahead, step) or chords[-1].chord
        return self._found[beyond_now]

    def _of_beats(self, chords: tuple[Span, ...]) -> list[str]:
        """The chords of the beats that were heard whole, by their middle; "" before the first."""
        middles = [(a + b) / 2 for a, b in pairwise(self._passed) if b <= chords[-1].end]
        at = np.searchsorted([span.start for span in chords], middles, side="right") - 1
        return [chords[i].chord if i >= 0 else "" for i in at]


def _repeated(heard: list[str], ahead: int, step: int) -> str:
    """The chord `ahead` beats after the last of those heard, if it comes again, after a multiple of `step` beats; ""
    where it does not."""
    codes = np.unique(heard, return_inverse=True)[1] if heard else np.zeros(0, int)
    best, found = _agreement(codes, max(1, ahead - 1)), ""
    for back in range(-(-ahead // step) * step, min(LONGEST, len(heard) - LEAST) + 1, step):
        if (agreement := _agreement(codes, back)) > best:
            best, found = agreement, heard[ahead - 1 - back]
    return found


def _agreement(codes: np.ndarray, back: int) -> float:
    """Share of the last beats that are as those `back` before them, by Laplace's rule; -1 where too few are there."""
    same = codes[back:][-COMPARED:] == codes[: max(0, len(codes) - back)][-COMPARED:]
    return (int(same.sum()) + 1) / (len(same) + 2) if len(same) >= LEAST else -1.0


def _around(beats: Beats, time: float) -> tuple[float, float]:
    """The last beat up to a time and the next one (s)."""
    _, phase, length = beat_at(beats, np.array([time]))
    last = float(time - phase[0] * length[0])
    return last, last + float(length[0])
