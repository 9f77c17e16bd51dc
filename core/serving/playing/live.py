"""One musician's session as the model's thread sees it: voices in slots, input and output, and what may change."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from attrs import define, field

from accomp.core.serving.frames import DISCONTINUITY, Frame
from accomp.core.serving.messages import Start
from accomp.core.serving.playing.beats import Beats
from accomp.core.serving.playing.hearing import PATIENCE as QUEUE
from accomp.core.serving.playing.hearing import Hearing, Inbox
from accomp.core.serving.playing.recording import Recording
from accomp.core.serving.playing.resampling import Drift
from accomp.core.serving.playing.sounding import FADE, Outbox, Sounding
from accomp.core.streaming.followed_timeline import FollowedTimeline

LEVELS = (0.005, 0.12)
"""Seconds of input that may wait, after a tick, for `PATIENCE` seconds; else the session is anchored anew."""
PATIENCE = 3.0


@define(eq=False, repr=False)
class Voice:
    """A slot that plays for a session. Attributes: origin: the session's sample that is sample 0 of the slot's."""

    slot: int
    origin: int
    following: dict[str, FollowedTimeline] = field(factory=dict)


@define(eq=False, repr=False)
class LiveSession:
    """A session while it plays: what comes in, what goes out, and how it is changed.

    Attributes:
        inbox, outbox: what the socket's thread fills and empties.
        voices: the one that is heard, then one that will be.
        ended: called once, with why, when the model's side ends the session.
        silent_until: sample before which nothing is heard: the end of the count-in.
        fits: what is told of the budget when the session begins.
        spare: followers that were made for it outside the model's thread.
        margin: seconds by which the last output left ahead of its place.
    """

    id: str
    start: Start
    inbox: Inbox
    outbox: Outbox
    hearing: Hearing
    sounding: Sounding
    ended: Callable[[str, str], None]
    drift: Drift | None = None
    recording: Recording | None = None
    beats: Beats | None = None
    spare: dict[str, FollowedTimeline] = field(factory=dict)
    voices: list[Voice] = field(factory=list)
    swap_at: int | None = None
    frozen: bool = False
    muted: bool = False
    silent_until: int = 0
    heard_at: float = field(factory=time.monotonic)
    told_silent: bool = False
    reanchored: int = 0
    margin: float = 0.0
    fits: Mapping[str, Any] = field(factory=dict)
    _next: int | None = None
    _rise: bool = True
    _falls: tuple[int, int] | None = None
    _off_since: float | None = None
    _broken: bool = False

    def absorb(self, now: float) -> None:
        """Take in what has come. Raises ValueError as Hearing does."""
        if frames := self.inbox.take():
            self.heard_at, self.told_silent = now, False
            self.hearing.absorb(frames)

    def take(self, samples: int) -> np.ndarray:
        """The input of the next tick."""
        at = self.hearing.taken
        sound = self.hearing.take(samples)
        if self.recording is not None:
            self.recording.heard(at, sound)
        return np.zeros_like(sound) if self.frozen else sound

    def follow_clock(self, seconds: float, now: float) -> bool:
        """Correct the page's clock by the level that a tick left, `seconds` after the one before; whether the session
        had to be anchored anew."""
        if self.drift is None:
            return False
        level = self.hearing.available / self.hearing.to
        share = self.drift.update(level, seconds)
        over = round(seconds * self.hearing.rate)
        self.hearing.correct(share, over)
        self.sounding.correct(share, round(seconds * self.hearing.to))
        off = self.drift.lost or not LEVELS[0] <= level <= LEVELS[1]
        self._off_since = (self._off_since or now) if off else None
        if self._off_since is None or now - self._off_since < PATIENCE:
            return False
        self._anchor(self.drift.target)
        self.drift.again()
        self._off_since = None
        return True

    def keep_up(self) -> bool:
        """Leave out input that is more than a queue holds; whether there was more."""
        if self.hearing.available <= QUEUE * self.hearing.to:
            return False
        self._anchor(0.0)
        return True

    def _anchor(self, level: float) -> None:
        """Go on in another place, with so much input (s) in the queue."""
        self.sounding.shift(self.hearing.reanchor(round(level * self.hearing.to)))
        self._rise, self._broken = True, True
        self.reanchored += 1

    def play(self, sample: int, sound: np.ndarray) -> Frame | None:
        """Send what the model made from a session's sample on -> the frame, if one went out."""
        assert self.hearing.first is not None, "a session begins with its first frame"
        if self._next is None:
            self.sounding.begin(sample, self.hearing.first)
            self._next = sample
        assert sample >= self._next, "output is made in order"
        if sample > self._next:
            sound = np.concatenate([np.zeros(sample - self._next, np.float32), sound])
            sample = self._next
        self._next = sample + len(sound)
        if self.silent_until > sample:
            sound = sound.copy()
            sound[: self.silent_until - sample] = 0
            self._rise = self.silent_until >= self._next
        elif self._rise:
            sound, self._rise = risen(sound, self.hearing.to), False
        if self._falls is not None:
            begin, length = self._falls
            past = np.arange(sample - begin, self._next - begin, dtype=np.float32)
            sound = sound * np.clip(1 - past / length, 0, 1)
        if self.recording is not None:
            self.recording.played(sample, np.zeros_like(sound) if self.muted else sound)
        frame = self.sounding.frame(sound)
        if frame is None:
            return None
        if self._broken:
            frame = Frame(frame.kind, frame.place, frame.samples, frame.number, DISCONTINUITY)
            self._broken = False
        self.margin = frame.place / self.hearing.rate - self.hearing.place_at(self.hearing.taken) / self.hearing.rate
        self.outbox.play(frame)
        return frame

    def fade(self, seconds: float) -> None:
        """From the next output on, fall silent within so many seconds."""
        self._falls = (self._next or 0, max(1, round(seconds * self.hearing.to)))

    def rise(self) -> None:
        """What is heard next fades in."""
        self._rise = True

    def place(self, voice: Voice, sample: int) -> int:
        """The page's place at a sample of a voice's slot."""
        return round(self.hearing.place_at(voice.origin + sample))

    def tell(self, **message: Any) -> None:
        self.outbox.tell(message)


def risen(sound: np.ndarray, rate: int) -> np.ndarray:
    """Sound [n] that fades in, over FADE or all of it."""
    steps = min(len(sound), round(FADE * rate))
    return np.concatenate([sound[:steps] * np.linspace(0, 1, steps, dtype=np.float32), sound[steps:]])


def crossed(before: np.ndarray, after: np.ndarray, rate: int) -> np.ndarray:
    """From one sound [n] to the other, over FADE or all of it."""
    steps = min(len(after), round(FADE * rate))
    gain = np.linspace(0, 1, steps, dtype=np.float32)
    return np.concatenate([before[:steps] * (1 - gain) + after[:steps] * gain, after[steps:]])
