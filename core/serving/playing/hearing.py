"""What a page hears, on its way to a model: placed frames in, the codec's samples out, none of them shifted in time."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from accomp.core.serving.frames import Frame
from accomp.core.serving.playing.resampling import Resampler

PATIENCE = 2.0
"""Seconds of input that may wait."""
LONGEST_HOLE = 20.0
"""Seconds that may be missing at once; a page whose places jump further has begun anew."""


class Inbox:
    """Frames from the socket's thread to the model's; neither waits. What finds it full is lost, and counted.

    Attributes:
        lost: samples that found it full.
        received: samples taken in.
    """

    def __init__(self, rate: int, patience: float = PATIENCE):
        self.lost = self.received = 0
        self._frames: deque[Frame] = deque()
        self._most, self._waiting, self._lock = round(patience * rate), 0, threading.Lock()

    def put(self, frame: Frame) -> bool:
        """The socket's; False where it is full."""
        with self._lock:
            if self._waiting + len(frame.samples) > self._most:
                self.lost += len(frame.samples)
                return False
            self._waiting += len(frame.samples)
            self.received += len(frame.samples)
            self._frames.append(frame)
            return True

    def take(self) -> list[Frame]:
        """The model's: all that wait."""
        with self._lock:
            frames = list(self._frames)
            self._frames.clear()
            self._waiting = 0
        return frames


class Hearing:
    """Input of one session at the codec's rate, sample 0 at the place of the first frame.

    Frames that are missing are holes, heard as zeros. What comes after its time has passed (`take` has put zeros in its
    place) is dropped. Both are counted.

    Attributes:
        first: place of sample 0; None before the first frame.
        lost: samples of the page that were heard as zeros.
        taken: samples taken so far.
    """

    def __init__(self, rate: int, to: int, *, varies: bool = False):
        self.rate, self.to = rate, to
        self.first: int | None = None
        self.lost = self.taken = 0
        self._resampler = Resampler(rate, to, varies=varies)
        self._next = 0  # place after the last sample that went in
        self._at = 0.0  # the session's sample that belongs to this place
        self._owed = 0  # samples that were taken before they came
        self._ready: deque[np.ndarray] = deque()
        self._waiting = 0

    @property
    def next_place(self) -> int:
        """The place after the last sample that came."""
        return self._next

    @property
    def available(self) -> int:
        """Samples that wait to be taken; negative where more were taken than have come."""
        return self._waiting - self._owed

    def absorb(self, frames: list[Frame]) -> None:
        """Take in frames in the order in which they came. Raises ValueError where a place jumps by LONGEST_HOLE."""
        for frame in frames:
            if self.first is None:
                self.first = self._next = frame.place
            hole = frame.place - self._next
            if hole > LONGEST_HOLE * self.rate:
                raise ValueError(f"the page's clock jumped by {hole / self.rate:.1f} s; start again")
            if hole > 0:
                self.lost += hole
                self._push(np.zeros(hole, np.float32))
            self._push(frame.samples[max(0, -hole) :])

    def take(self, samples: int) -> np.ndarray:
        """The next samples [n]; zeros for those that have not come."""
        parts, missing = [], samples
        while missing and self._ready:
            piece = self._ready[0]
            part = piece[:missing]
            parts.append(part)
            missing -= len(part)
            self._waiting -= len(part)
            if len(part) < len(piece):
                self._ready[0] = piece[len(part) :]
            else:
                self._ready.popleft()
        if missing:
            self._owed += missing
            self.lost += round(missing * self.rate / self.to)
            parts.append(np.zeros(missing, np.float32))
        self.taken += samples
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def correct(self, share: float, over: int = 0) -> None:
        """Let the page's samples last (1 + share) times as long, as its clock does by the server's."""
        self._resampler.correct(share, over)

    def reanchor(self, target: int) -> int:
        """Let so many samples wait from now on: more are dropped, zeros taken for what came late are forgiven.

        Returns how many samples later in the page's time the session's next sample is than it was.
        """
        surplus = self.available - target
        later = max(0, surplus)
        self.lost += round(later * self.rate / self.to)
        while surplus > 0:
            piece = self._ready.popleft()
            if len(piece) > surplus:
                self._ready.appendleft(piece[surplus:])
            gone = min(surplus, len(piece))
            self._waiting -= gone
            surplus -= gone
        forgiven = min(self._owed, max(0, -surplus))
        self._owed -= forgiven
        self._at += forgiven - later
        return later - forgiven

    def place_at(self, sample: float) -> float:
        """The page's place at a sample of the session, by the ratio of now. Only once the first frame is there."""
        ratio = self.rate / (self.to * (1 + self._resampler.correction))
        assert self.first is not None, "a session begins with its first frame"
        return self._next + (sample - self._at) * ratio

    def sample_at(self, place: float) -> float:
        """The session's sample at a place of the page."""
        return self._at + (place - self._next) * self.to * (1 + self._resampler.correction) / self.rate

    def _push(self, sound: np.ndarray) -> None:
        if not len(sound):
            return
        self._next += len(sound)
        self._at += len(sound) * self.to * (1 + self._resampler.correction) / self.rate
        made = self._resampler.push(sound)
        late = min(self._owed, len(made))
        self._owed -= late
        if late < len(made):
            self._ready.append(made[late:])
            self._waiting += len(made) - late
