"""Timelines that are heard in the input while a model plays to it, and carried forward to the frames it plays.

A chunk that starts at frame s is drawn from input frames [0, s + t_f). What a follower has heard in just these is told
of its frames, whatever has arrived beyond them: that makes it the same however the input comes.
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

REMEMBERED = 4
"""Chunks that may be asked for again: a chunk is absorbed once more after it was drawn."""


class Foresight(Protocol):
    """Makes of what is known what will be."""

    def begin(self) -> None:
        """A new session."""
        ...

    def __call__(self, chunk: int, known: Annotations, now: float) -> Annotations:
        """What is told of the chunk that starts at this frame; now: how much of the input has been heard (s)."""
        ...


@frozen
class Listened:
    """How a timeline was followed.

    Attributes:
        seconds: how much was heard.
        since: from when on something was known (s into the input); None where nothing ever was.
        last: what was told last.
    """

    seconds: float
    since: float | None
    last: Annotations


@define(eq=False)
class Followed:
    """A Source for one session at a time, which has to be told of the session's input, too.

    Attributes:
        name: of the timeline.
        clock, space: of the model and its codec: they decide what has been heard of the input when a frame is played.
        foresee: what the follower knows -> what the model is told; None: the same, which goes on as a beat grid does.
    """

    name: str
    follower: Follower
    clock: Clock
    space: TokenSpace
    foresee: Foresight | None = None
    _waiting: deque[np.ndarray] = field(factory=deque, init=False)  # input that no chunk has asked for
    _before: int = field(default=0, init=False)  # samples of the session before the first that is heard
    _heard: int = field(default=0, init=False)  # samples of the session's input that the follower has been given
    _known: dict[int, Annotations] = field(factory=dict, init=False)  # first frame of a chunk -> what is told of it
    _since: float | None = field(default=None, init=False)

    def begin(self, before: int = 0) -> None:
        """A new session, or one that has heard `before` samples already."""
        self.follower.begin()
        if self.foresee is not None:
            self.foresee.begin()
        self._waiting.clear()
        self._known.clear()
        self._before = self._heard = before
        self._since = None

    def listen(self, audio: np.ndarray) -> None:
        """What the session hears next: audio [n] float32 at the codec's rate."""
        if len(audio):
            self._waiting.append(np.array(audio, np.float32))

    def __call__(self, first: int, frames: int) -> Values:
        """What is told of frames first .. first + frames - 1 of the session, [frames, N].

        Raises ValueError for frames whose input was not listened to, and for those of long ago.
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
        """What is told of the chunk that starts at this frame, in the session's time."""
        if chunk not in self._known:
            self._hear(self.clock.visible(chunk) * self.space.hop, chunk)
            now = self._heard / self.space.sample_rate
            known = self.follower.known().later(self._before / self.space.sample_rate)
            if self.foresee is not None:
                known = self.foresee(chunk, known, now)
            if self._since is None and knows(known, self.name):
                self._since = now
            self._known[chunk] = known
            while len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return self._known[chunk]

    def listened(self) -> Listened:
        """How it went so far."""
        last = next(reversed(self._known.values()), NOTHING)
        return Listened((self._heard - self._before) / self.space.sample_rate, self._since, last)

    def _hear(self, samples: int, chunk: int) -> None:
        """Give the follower the input up to this sample."""
        if samples < self._heard and chunk < max(self._known, default=chunk):
            raise ValueError(f"frame {chunk} was played long ago; what was heard then is not kept")
        while self._heard < samples:
            if not self._waiting:
                raise ValueError(
                    f"{self.name}: {self._heard} samples of the input were listened to, frame {chunk} is played after "
                    f"{samples}; what is followed goes with an AudioSession, or give `listen` all of the input first"
                )
            piece = self._waiting.popleft()
            taken = piece[: samples - self._heard]
            if len(taken) < len(piece):
                self._waiting.appendleft(piece[len(taken) :])
            self.follower.push(taken)
            self._heard += len(taken)
