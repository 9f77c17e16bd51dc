"""When to believe a beat tracker: from its best guess frame by frame to a grid that holds, or to none."""

from __future__ import annotations

from collections import deque

from attrs import define, field, frozen

HEARD = 0.15
"""Activation from which on the last beat counts as heard, and at first the last BEATS, by their mean: in noise that
stays below 0.13, in music above 0.2 with few exceptions."""
BEATS = 4
FIRST, AGAIN = 3.0, 0.5
"""Beats for which a guess has to hold before it is believed: the first one, and another one later."""
NEAR = 0.12
"""Of a beat: how close to one the activation counts as its own; a guess is believed between beats only."""
JUMP = 0.1
"""Of a beat, or of its length: from one frame to the next a guess that moves further is another one."""


@frozen
class Guess:
    """A tracker's best guess at a frame: how far it is in its beat (0 to 1), and how long that is (frames)."""

    position: float
    interval: float


@define(eq=False)
class Lock:
    """Believes guesses that go on as they should and have activations at their beats. What was believed last holds
    until another one is believed: music goes on counting where a band is silent for a bar.

    Attributes:
        grid: a beat and the beat's length, in frames from the first; None before anything was believed.
    """

    grid: tuple[float, float] | None = None
    _frame: int = field(default=-1, init=False)
    _before: Guess | None = field(default=None, init=False)
    _held: float = field(default=0.0, init=False)  # beats for which the guess has held
    _peak: float = field(default=0.0, init=False)  # the largest activation near the beat that is passing
    _peaks: deque[float] = field(factory=lambda: deque(maxlen=BEATS), init=False)

    def update(self, guess: Guess, activation: float) -> None:
        """What a tracker guesses, and its network says, of the next frame."""
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
