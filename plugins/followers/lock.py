"""Filter of beat-tracker estimates: from estimates per frame to a stable beat grid, or none."""

from __future__ import annotations

from collections import deque

from attrs import define, field, frozen

HEARD = 0.15
"""Activation threshold of the last beat and, before the first grid, of the mean of the last BEATS. Noise stays below
0.13, music above 0.2 with few exceptions."""
BEATS = 4
FIRST, AGAIN = 3.0, 0.5
"""Beats for which an estimate must be stable before it is accepted: the first one, and later ones."""
NEAR = 0.12
"""Distance to a beat, in beats, within which activations belong to it; estimates are accepted only between beats."""
JUMP = 0.1
"""Largest change per frame of the phase (in beats) or the relative period of a stable estimate."""


@frozen
class Guess:
    """Beat estimate at a frame: phase within the beat (0 to 1) and period (frames)."""

    position: float
    interval: float


@define(eq=False)
class Lock:
    """Hysteresis over estimates: accepts those that are stable and have activations at their beats. An accepted grid
    stays until another one is accepted, so it survives bars of silence.

    Attributes:
        grid: time of a beat and beat period, in frames from the first; None before an estimate is accepted.
    """

    grid: tuple[float, float] | None = None
    _frame: int = field(default=-1, init=False)
    _before: Guess | None = field(default=None, init=False)
    _held: float = field(default=0.0, init=False)  # beats for which the estimate has been stable
    _peak: float = field(default=0.0, init=False)  # largest activation near the current beat
    _peaks: deque[float] = field(factory=lambda: deque(maxlen=BEATS), init=False)

    def update(self, guess: Guess, activation: float) -> None:
        """Add the estimate of the tracker and the activation of its network at the next frame."""
        self._frame += 1
        held = self._before is not None and _goes_on(self._before, guess)
        self._held = self._held + 1 / guess.interval if held else 0.0
        self._before = guess
        between = min(guess.position, 1 - guess.position) >= NEAR
        self._weigh(between, activation)
        if between and self._held >= (FIRST if self.grid is None else AGAIN) and self._loud():
            self.grid = (self._frame - guess.position * guess.interval, guess.interval)

    def _weigh(self, between: bool, activation: float) -> None:
        if not between:
            self._peak = max(self._peak, activation)
        elif self._peak:
            self._peaks.append(self._peak)
            self._peak = 0.0

    def _loud(self) -> bool:
        if not self._peaks or self._peaks[-1] <= HEARD:
            return False
        return self.grid is not None or (len(self._peaks) == BEATS and sum(self._peaks) / BEATS > HEARD)


def _goes_on(before: Guess, now: Guess) -> bool:
    off = (now.position - before.position - 1 / before.interval + 0.5) % 1 - 0.5
    return abs(off) <= JUMP and abs(now.interval / before.interval - 1) <= JUMP
