"""Timelines that a follower estimates from the input, extrapolated to the frames that the model plays.

A chunk that starts at frame s is drawn from input frames [0, s + t_f). Its timelines depend on the follower's result
for exactly these, whatever has arrived beyond them, so that the block size of the input does not matter.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from attrs import define, field, frozen

from accomp.core.clock import Clock
from accomp.core.interfaces import Follower
from accomp.core.music.annotations import NOTHING, Annotations
from accomp.core.music.timelines import KINDS, Values, frame_times, knows
from accomp.core.types import TokenSpace

CHUNKS_KEPT = 4
"""Number of chunks whose values are kept: a chunk is absorbed once more after it was drawn."""


class Forecast(Protocol):
    """Extrapolates estimated annotations."""

    def begin(self) -> None:
        """Start a new session."""
        ...

    def __call__(self, chunk: int, known: Annotations, now: float) -> Annotations:
        """Annotations of the chunk that starts at frame `chunk`; now: duration of the input so far (s)."""
        ...


@frozen
class FollowSummary:
    """Result of following a timeline.

    Attributes:
        seconds: duration of the input that the follower received.
        since: time of the first result (s into the input); None without any.
        last: the last annotations.
    """

    seconds: float
    since: float | None
    last: Annotations


@define(eq=False)
class FollowedTimeline:
    """A Source for one session at a time that is estimated from the session's input.

    Attributes:
        name: of the timeline.
        clock, space: of the model and its codec: they determine the input that is visible to a frame.
        forecast: follower's annotations -> those for the model; None: unchanged, extrapolated as a beat grid is.
    """

    name: str
    follower: Follower
    clock: Clock
    space: TokenSpace
    forecast: Forecast | None = None
    _pending: deque[np.ndarray] = field(factory=deque, init=False)  # input that no chunk has used
    _before: int = field(default=0, init=False)  # samples of the session before the follower's first
    _samples: int = field(default=0, init=False)  # samples of the session's input up to the follower's last
    _known: dict[int, Annotations] = field(factory=dict, init=False)  # first frame of a chunk -> its annotations
    _since: float | None = field(default=None, init=False)

    def begin(self, before: int = 0) -> None:
        """Start a new session, or one that has received `before` samples already."""
        self.follower.begin()
        if self.forecast is not None:
            self.forecast.begin()
        self._pending.clear()
        self._known.clear()
        self._before = self._samples = before
        self._since = None

    def listen(self, audio: np.ndarray) -> None:
        """Append the session's next input: audio [n] float32 at the codec's rate."""
        if len(audio):
            self._pending.append(np.array(audio, np.float32))

    def __call__(self, first: int, frames: int) -> Values:
        """Values of frames first .. first + frames - 1 of the session, [frames, N].

        Raises ValueError for frames whose input is missing, and for those too long ago.
        """
        k, of = self.clock.k, KINDS[self.name].of
        values, frame, end = [], first, first + frames
        while frame < end:
            until = min(end, frame // k * k + k)
            times = frame_times(frame, until - frame, self.space.frame_rate)
            values.append(of(self.known(frame // k * k), times))
            frame = until
        return np.concatenate(values)

    def known(self, chunk: int) -> Annotations:
        """Annotations of the chunk that starts at frame `chunk`, in the session's time."""
        if chunk not in self._known:
            self._feed(self.clock.visible(chunk) * self.space.hop, chunk)
            now = self._samples / self.space.sample_rate
            known = self.follower.known().later(self._before / self.space.sample_rate)
            if self.forecast is not None:
                known = self.forecast(chunk, known, now)
            if self._since is None and knows(known, self.name):
                self._since = now
            self._known[chunk] = known
            while len(self._known) > CHUNKS_KEPT:
                del self._known[next(iter(self._known))]
        return self._known[chunk]

    def summary(self) -> FollowSummary:
        """Summarise the result so far."""
        last = next(reversed(self._known.values()), NOTHING)
        return FollowSummary((self._samples - self._before) / self.space.sample_rate, self._since, last)

    def _feed(self, samples: int, chunk: int) -> None:
        """Feed the follower the input up to this sample."""
        if samples < self._samples and chunk < max(self._known, default=chunk):
            raise ValueError(f"frame {chunk} is too long ago; its annotations are not kept any more")
        while self._samples < samples:
            if not self._pending:
                raise ValueError(
                    f"{self.name}: {self._samples} samples of input are there, frame {chunk} is played after "
                    f"{samples}; use an AudioSession, or give `listen` all of the input first"
                )
            piece = self._pending.popleft()
            taken = piece[: samples - self._samples]
            if len(taken) < len(piece):
                self._pending.appendleft(piece[len(taken) :])
            self.follower.push(taken)
            self._samples += len(taken)
