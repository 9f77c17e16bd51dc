"""Input of a session: placed frames in, the codec's samples out, without a shift in time."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from accomp.core.serving.playing.resampling import Resampler
from accomp.core.serving.protocol.frames import Frame

PATIENCE = 2.0
"""Seconds of input that may be queued."""
LONGEST_GAP = 20.0
"""Longest gap in seconds; a page whose places jump further has restarted."""


class Inbox:
    """Queue of frames from the event loop's thread to the model's; neither waits. Frames that find it full are lost.

    Attributes:
        lost: samples that found it full.
        received: samples accepted.
        end: the place after the newest of them.
    """

    def __init__(self, rate: int, patience: float = PATIENCE):
        self.lost = self.received = self.end = 0
        self._frames: deque[Frame] = deque()
        self._most, self._waiting, self._lock = round(patience * rate), 0, threading.Lock()

    def put(self, frame: Frame) -> bool:
        """Queue a frame (event loop); False if full."""
        with self._lock:
            if self._waiting + len(frame.samples) > self._most:
                self.lost += len(frame.samples)
                return False
            self._waiting += len(frame.samples)
            self.received += len(frame.samples)
            self.end = frame.place + len(frame.samples)
            self._frames.append(frame)
            return True

    def take(self) -> list[Frame]:
        """Take all queued frames (model's thread)."""
        with self._lock:
            frames = list(self._frames)
            self._frames.clear()
            self._waiting = 0
        return frames


class InputStream:
    """Input of one session at the codec's rate, sample 0 at the place of the first frame.

    Missing frames are replaced by zeros. Frames after their time (`take` has returned zeros) are dropped. Both are
    counted.

    Attributes:
        first: place of sample 0; None before the first frame.
        lost: samples of the page that were replaced by zeros.
        taken: samples taken so far.
    """

    def __init__(self, rate: int, to: int, *, varies: bool = False):
        self.rate, self.to = rate, to
        self.first: int | None = None
        self.lost = self.taken = 0
        self._resampler = Resampler(rate, to, varies=varies)
        self._next = 0  # place after the last resampled sample
        self._at = 0.0  # the session's sample at this place
        self._owed = 0  # samples taken before they were received
        self._ready: deque[np.ndarray] = deque()
        self._waiting = 0

    @property
    def next_place(self) -> int:
        """The place after the last received sample."""
        return self._next

    @property
    def available(self) -> int:
        """Samples ready to be taken; negative if more were taken than received."""
        return self._waiting - self._owed

    def absorb(self, frames: list[Frame]) -> None:
        """Process frames in order of arrival. Raises ValueError for a jump of more than LONGEST_GAP."""
        for frame in frames:
            if self.first is None:
                self.first = self._next = frame.place
            gap = frame.place - self._next
            if gap > LONGEST_GAP * self.rate:
                raise ValueError(f"the page's clock jumped by {gap / self.rate:.1f} s; start again")
            if gap > 0:
                self.lost += gap
                self._push(np.zeros(gap, np.float32))
            self._push(frame.samples[max(0, -gap) :])

    def take(self, samples: int) -> np.ndarray:
        """Take the next samples [n]; zeros for those not received."""
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
        """Let the page's samples last (1 + share) times as long, in the server's time."""
        self._resampler.correct(share, over)

    def resync(self, target: int) -> int:
        """Set the queue to `target` samples: drop the excess, write off zeros taken for late input.

        Returns by how many samples the session's next sample is later in the page's time than before.
        """
        surplus = self.available - target
        later = max(0, surplus)
        self.lost += round(later * self.rate / self.to)
        while surplus > 0:
            piece = self._ready.popleft()
            if len(piece) > surplus:
                self._ready.appendleft(piece[surplus:])
            dropped = min(surplus, len(piece))
            self._waiting -= dropped
            surplus -= dropped
        written_off = min(self._owed, max(0, -surplus))
        self._owed -= written_off
        self._at += written_off - later
        return later - written_off

    def place_at(self, sample: float) -> float:
        """The page's place at a sample of the session, at the current ratio. Requires the first frame."""
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
        out = self._resampler.push(sound)
        late = min(self._owed, len(out))
        self._owed -= late
        if late < len(out):
            self._ready.append(out[late:])
            self._waiting += len(out) - late
