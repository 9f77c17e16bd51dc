"""What a model plays, on its way to a page: the codec's samples in, placed frames at the page's rate out."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from accomp.core.serving.frames import HEARD, Frame
from accomp.core.serving.playing.resampling import Resampler

PATIENCE = 0.5
"""Seconds of output that may wait for a socket."""
FADE = 0.05
"""Seconds in which output begins and ends."""


class Sounding:
    """Output of one session at the page's rate.

    Attributes:
        sent: frames made so far.
    """

    def __init__(self, rate: int, to: int, *, varies: bool = False):
        """rate: the codec's; to: the page's."""
        self.rate, self.to, self.sent = rate, to, 0
        self._resampler = Resampler(rate, to, varies=varies)
        self._place: int | None = None
        self._skipped = 0

    def begin(self, sample: int, place_of_zero: int) -> int:
        """The session's sample that comes first, and the place of its sample 0 -> the place of the first output.

        Both rates meet at a sample before it; what is silent from there on is not sent.
        """
        step = self.rate // math.gcd(self.rate, self.to)
        start = sample // step * step
        self._place = place_of_zero + start // step * (self.to // math.gcd(self.rate, self.to))
        early = sample - start
        self._skipped = math.ceil(early * self.to / self.rate)
        self._push(np.zeros(early, np.float32))
        return self._place + self._skipped

    def correct(self, share: float, over: int = 0) -> None:
        """As for the input: the page's samples last (1 + share) times as long, so that there are fewer of them."""
        self._resampler.correct(1 / (1 + share) - 1, over)

    def shift(self, samples: int) -> None:
        """What comes next is so many of the codec's samples later in the page's time than it was."""
        if self._place is not None:
            self._place += round(samples * self.to / self.rate)

    def frame(self, sound: np.ndarray) -> Frame | None:
        """The codec's next samples [n] -> what is ready of them; None where nothing is."""
        return self._push(sound)

    def _push(self, sound: np.ndarray) -> Frame | None:
        assert self._place is not None, "begin comes first"
        made = self._resampler.push(sound)
        place = self._place
        self._place += len(made)
        early = min(self._skipped, len(made))
        self._skipped -= early
        if place + early < 0:  # before the page's own beginning
            early = min(len(made), -place)
        if early == len(made):
            return None
        frame = Frame(HEARD, place + early, made[early:], self.sent)
        self.sent += 1
        return frame


class Outbox:
    """Messages from any thread to a socket's; nobody waits. Where sound waits longer than PATIENCE its oldest is lost.

    Attributes:
        dropped: samples that were lost.
    """

    def __init__(self, rate: int, wake: Callable[[], None], patience: float = PATIENCE):
        """wake: called, from any thread, when there is something to be sent."""
        self.dropped = 0
        self._most, self._wake, self._lock = round(patience * rate), wake, threading.Lock()
        self._texts: deque[dict[str, Any]] = deque(maxlen=1000)
        self._frames: deque[Frame] = deque()
        self._waiting = 0

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message in JSON, before the sound that waits."""
        with self._lock:
            self._texts.append(message)
        self._wake()

    def play(self, frame: Frame) -> None:
        """Send a frame."""
        with self._lock:
            self._frames.append(frame)
            self._waiting += len(frame.samples)
            while self._waiting > self._most and len(self._frames) > 1:
                oldest = self._frames.popleft()
                self._waiting -= len(oldest.samples)
                self.dropped += len(oldest.samples)
        self._wake()

    def silence(self) -> None:
        """Forget the sound that waits."""
        with self._lock:
            self._frames.clear()
            self._waiting = 0

    def take(self) -> dict[str, Any] | Frame | None:
        """The next to be sent; None where there is none."""
        with self._lock:
            if self._texts:
                return self._texts.popleft()
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._waiting -= len(frame.samples)
            return frame
