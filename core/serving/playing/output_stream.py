"""Output of a session: the codec's samples in, placed frames at the page's rate out."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from accomp.core.serving.playing.resampling import Resampler
from accomp.core.serving.protocol.frames import HEARD, Frame

PATIENCE = 0.5
"""Seconds of output that may be queued for a socket."""
FADE = 0.05
"""Seconds of fades at begin and end of output."""


class OutputStream:
    """Output of one session at the page's rate.

    Attributes:
        sent: frames out so far.
    """

    def __init__(self, rate: int, to: int, *, varies: bool = False):
        """rate: the codec's; to: the page's."""
        self.rate, self.to, self.sent = rate, to, 0
        self._resampler = Resampler(rate, to, varies=varies)
        self._place: int | None = None
        self._skipped = 0

    def begin(self, sample: int, place_of_zero: int) -> int:
        """Set the session's first sample, and the place of its sample 0 -> the place of the first output.

        Resampling starts at a common multiple of both rates before it; the silent part is not sent.
        """
        first = self.first_place(sample, place_of_zero)
        common = math.gcd(self.rate, self.to)
        steps, early = divmod(sample, self.rate // common)
        self._place = place_of_zero + steps * (self.to // common)
        self._skipped = first - self._place
        self._push(np.zeros(early, np.float32))
        return first

    def first_place(self, sample: int, place_of_zero: int) -> int:
        """Return what `begin` would: the first place that is not before the session's sample."""
        return place_of_zero + -(-sample * self.to // self.rate)

    def correct(self, share: float, over: int = 0) -> None:
        """Correct as the input: the page's samples last (1 + share) times as long, so that there are fewer of them."""
        self._resampler.correct(1 / (1 + share) - 1, over)

    def shift(self, samples: int) -> None:
        """Shift the next output by so many of the codec's samples in the page's time."""
        if self._place is not None:
            self._place += round(samples * self.to / self.rate)

    def frame(self, sound: np.ndarray) -> Frame | None:
        """Resample the codec's next samples [n] -> a frame of the ready output; None if empty."""
        return self._push(sound)

    def _push(self, sound: np.ndarray) -> Frame | None:
        assert self._place is not None, "begin comes first"
        out = self._resampler.push(sound)
        place = self._place
        self._place += len(out)
        early = min(self._skipped, len(out))
        self._skipped -= early
        if place + early < 0:  # before the page's start
            early = min(len(out), -place)
        if early == len(out):
            return None
        frame = Frame(HEARD, place + early, out[early:], self.sent)
        self.sent += 1
        return frame


class Outbox:
    """Queue of messages from any thread to a socket's; nobody waits. Beyond PATIENCE the oldest audio is dropped.

    Attributes:
        dropped: samples that were dropped.
    """

    def __init__(self, rate: int, wake: Callable[[], None], patience: float = PATIENCE):
        """wake: called, from any thread, when there is a message."""
        self.dropped = 0
        self._most, self._wake, self._lock = round(patience * rate), wake, threading.Lock()
        self._texts: deque[dict[str, Any]] = deque(maxlen=1000)
        self._frames: deque[Frame] = deque()
        self._waiting = 0

    def send(self, message: dict[str, Any]) -> None:
        """Queue a JSON message, before all audio."""
        with self._lock:
            self._texts.append(message)
        self._wake()

    def send_frame(self, frame: Frame) -> None:
        """Queue a frame."""
        with self._lock:
            self._frames.append(frame)
            self._waiting += len(frame.samples)
            while self._waiting > self._most and len(self._frames) > 1:
                oldest = self._frames.popleft()
                self._waiting -= len(oldest.samples)
                self.dropped += len(oldest.samples)
        self._wake()

    def clear_audio(self) -> None:
        """Clear the queued audio."""
        with self._lock:
            self._frames.clear()
            self._waiting = 0

    def take(self) -> dict[str, Any] | Frame | None:
        """Take the next message; None if empty."""
        with self._lock:
            if self._texts:
                return self._texts.popleft()
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._waiting -= len(frame.samples)
            return frame
