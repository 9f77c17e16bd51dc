"""A MIDI clock: tempo and beats, by a straight line through the times of its ticks, which takes out their jitter.

At 120 beats a minute, jitter of 2 ms leaves about 0.3 % of error in one beat of ticks and 0.04 % in four. The page's
clock.js computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen

TICKS = 24
"""Ticks of a beat."""
SIXTEENTH = 6
"""Ticks of a unit of the song position."""
LONGEST = 4 * TICKS
"""Most ticks over which the tempo is averaged."""
CHANGE = 0.005
"""Least share by which the last beat differs from the average where the tempo has changed; older ticks are dropped."""
CLEAR = 8
"""Least ratio of that difference, over a beat, to what the ticks of the last beat are off their line. A stall of the
sender or of this machine, which is no change of tempo, reaches 6.
"""
BPM = (20.0, 400.0)
"""Least and greatest tempo; without one in between there is no beat."""
GAP = 0.25
"""Seconds between two ticks after which the tempo is measured anew; 10 beats a minute."""


@frozen
class Pulse:
    """Tempo and beat of a clock.

    Attributes:
        bpm: beats a minute.
        time: of a beat, in seconds of the caller's clock.
        beat: its number: 0 begins the song, or is the first tick that was received if no song position is known.
    """

    bpm: float
    time: float
    beat: int

    @property
    def length(self) -> float:
        """Seconds of a beat."""
        return 60 / self.bpm


class MidiClock:
    """Follows a clock by its messages. One thread calls `receive`; `pulse` and `last` may be read from others.

    Attributes:
        pulse: of about the last beat; None while the clock is stopped and until one beat of ticks is there.
        last: time of the last tick (s); None before the first.
        stopped: a stop was received, and no start or continue since.
    """

    def __init__(self) -> None:
        self.pulse: Pulse | None = None
        self.last: float | None = None
        self.stopped = False
        self._times: list[float] = []
        self._position = 0  # of the next tick

    def receive(self, kind: str, time: float, position: int = 0) -> None:
        """Process a message, of a kind as mido names it, that came at `time` (s); others are ignored.

        position: of a "songpos" message, in sixteenths.
        """
        match kind:
            case "clock":
                self._tick(time)
            case "start":
                self._begin(0)
            case "continue":
                self._begin(self._position)
            case "songpos":
                self._position = SIXTEENTH * position
            case "stop":
                self.stopped, self.pulse = True, None

    def withhold(self) -> None:
        """Drop the tempo: no more messages will come for now."""
        self.pulse = None
        self._times = []

    def _begin(self, position: int) -> None:
        """The next tick is at this position; the grid of ticks may be another, so that the tempo is measured anew."""
        self.withhold()
        self.stopped, self._position = False, position

    def _tick(self, time: float) -> None:
        if self.last is not None and time - self.last > GAP:
            self._times = []
        self.last = time
        if self.stopped:
            return
        self._times = [*self._times, time][-LONGEST - 1 :]
        beat, rest = divmod(self._position, TICKS)
        self._position += 1
        if len(self._times) == TICKS + 1 or (rest == 0 and len(self._times) > TICKS):
            self._update(beat, rest)

    def _update(self, beat: int, rest: int) -> None:
        """Set the pulse, at tick `rest` of a beat."""
        length, end, _ = line(self._times)
        recent = self._times[-TICKS - 1 :]
        last, last_end, off = line(recent)
        if abs(last - length) > max(CHANGE * length, CLEAR * off / TICKS):
            self._times, length, end = recent, last, last_end
        usable = BPM[0] * TICKS * length <= 60 <= BPM[1] * TICKS * length
        self.pulse = Pulse(60 / (TICKS * length), end - rest * length, beat) if usable else None


def line(times: Sequence[float]) -> tuple[float, float, float]:
    """Fit a straight line to the times of ticks -> seconds of a tick, time of the last tick on the line, and by how
    much (s, root mean square) ticks are off it.
    """
    spread, apart = np.arange(len(times)) - (len(times) - 1) / 2, np.asarray(times) - np.mean(times)
    step = float((spread * apart).sum() / (spread * spread).sum())
    off = float(np.sqrt(np.mean((apart - step * spread) ** 2)))
    return step, float(np.mean(times)) + step * spread[-1], off
