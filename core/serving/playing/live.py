"""One musician's session in the model's thread: voices in slots, input and output, and changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from attrs import define, field

from accomp.core.serving.playing.input_stream import PATIENCE as QUEUE
from accomp.core.serving.playing.input_stream import Inbox, InputStream
from accomp.core.serving.playing.output_stream import FADE, Outbox, OutputStream
from accomp.core.serving.playing.recording import Recording
from accomp.core.serving.playing.resampling import DriftControl
from accomp.core.serving.playing.session_timelines import SessionTimelines
from accomp.core.serving.protocol.frames import DISCONTINUITY, Frame
from accomp.core.serving.protocol.messages import Counts, Start
from accomp.core.streaming.followed_timeline import FollowedTimeline

LEVELS = (0.005, 0.12)
"""Bounds of the input queue after a tick, in seconds; outside them for `PATIENCE` seconds the session is
resynchronised.
"""
PATIENCE = 3.0


@define(eq=False, repr=False)
class Voice:
    """A slot that plays for a session. Attributes: origin: the session's sample at the slot's sample 0."""

    slot: int
    origin: int
    following: dict[str, FollowedTimeline] = field(factory=dict)


@define(eq=False, repr=False)
class LiveSession:
    """A session while it plays: its input, its output and its settings.

    Attributes:
        inbox, outbox: queues to and from the event loop's thread.
        voices: the current one, then the next one, if any.
        ended: called once, with the reason, when the model's side ends the session.
        silent_until: sample before which output is silent: the end of the count-in.
        fits: record of the budget for the client.
        spare: followers made outside the model's thread.
        margin: seconds by which the last output was ahead of its place when sent.
    """

    id: str
    start: Start
    inbox: Inbox
    outbox: Outbox
    input: InputStream
    output: OutputStream
    ended: Callable[[str, str], None]
    drift: DriftControl | None = None
    recording: Recording | None = None
    timelines: SessionTimelines | None = None
    spare: dict[str, FollowedTimeline] = field(factory=dict)
    voices: list[Voice] = field(factory=list)
    swap_at: int | None = None
    frozen: bool = False
    muted: bool = False
    silent_until: int = 0
    last_input_at: float = field(factory=time.monotonic)
    warned_silent: bool = False
    resynced: int = 0
    margin: float = 0.0
    fits: Mapping[str, Any] = field(factory=dict)
    _next: int | None = None
    _rise: bool = True
    _falls: tuple[int, int] | None = None
    _off_since: float | None = None
    _broken: bool = False

    def absorb(self, now: float) -> None:
        """Move queued input to the stream. Raises ValueError as InputStream does."""
        if frames := self.inbox.take():
            self.last_input_at, self.warned_silent = now, False
            self.input.absorb(frames)

    def take(self, samples: int) -> np.ndarray:
        """Take the input of the next tick."""
        at = self.input.taken
        sound = self.input.take(samples)
        if self.recording is not None:
            self.recording.add_input(at, sound)
        return np.zeros_like(sound) if self.frozen else sound

    def correct_clock(self, seconds: float, now: float) -> bool:
        """Correct for the page's clock by the queue level after a tick, `seconds` after the previous one; returns
        whether the session was resynchronised.
        """
        if self.drift is None:
            return False
        level = self.input.available / self.input.to
        share = self.drift.update(level, seconds)
        over = round(seconds * self.input.rate)
        self.input.correct(share, over)
        self.output.correct(share, round(seconds * self.input.to))
        off = self.drift.lost or not LEVELS[0] <= level <= LEVELS[1]
        self._off_since = (self._off_since or now) if off else None
        if self._off_since is None or now - self._off_since < PATIENCE:
            return False
        self._resync(self.drift.target)
        self.drift.restart()
        self._off_since = None
        return True

    def drop_excess(self) -> bool:
        """Drop input beyond the size of the queue; returns whether there was any."""
        if self.input.available <= QUEUE * self.input.to:
            return False
        self._resync(0.0)
        return True

    def _resync(self, level: float) -> None:
        """Resynchronise, with `level` seconds of input in the queue."""
        self.output.shift(self.input.resync(round(level * self.input.to)))
        self._rise, self._broken = True, True
        self.resynced += 1

    def play(self, sample: int, sound: np.ndarray) -> Frame | None:
        """Send model output from a session's sample on -> the frame, if one was sent."""
        assert self.input.first is not None, "a session begins with its first frame"
        if self._next is None:
            self.output.begin(sample, self.input.first)
            self._next = sample
        assert sample >= self._next, "output comes in order"
        if sample > self._next:
            sound = np.concatenate([np.zeros(sample - self._next, np.float32), sound])
            sample = self._next
        self._next = sample + len(sound)
        if self.silent_until > sample:
            sound = sound.copy()
            sound[: self.silent_until - sample] = 0
            self._rise = self.silent_until >= self._next
        elif self._rise:
            sound, self._rise = fade_in(sound, self.input.to), False
        if self._falls is not None:
            begin, length = self._falls
            past = np.arange(sample - begin, self._next - begin, dtype=np.float32)
            sound = sound * np.clip(1 - past / length, 0, 1)
        if self.recording is not None:
            self.recording.add_output(sample, np.zeros_like(sound) if self.muted else sound)
        frame = self.output.frame(sound)
        if frame is None:
            return None
        if self._broken:
            frame = Frame(frame.kind, frame.place, frame.samples, frame.number, DISCONTINUITY)
            self._broken = False
        self.margin = frame.place / self.input.rate - self.input.place_at(self.input.taken) / self.input.rate
        if self.recording is not None:
            self.recording.add_ahead("sent", sample, (frame.place - self.inbox.end) / self.input.rate)
        self.outbox.send_frame(frame)
        return frame

    def fade(self, seconds: float) -> None:
        """Fade out within `seconds` from the next output on."""
        self._falls = (self._next or 0, max(1, round(seconds * self.input.to)))

    def rise(self) -> None:
        """Fade in the next output."""
        self._rise = True

    def record_counts(self, counts: Counts) -> None:
        """Record what a page has counted: its lead, and what was missing there."""
        if self.recording is None or self.input.first is None:
            return
        if counts.margin_min_ms is not None:
            self.recording.add_ahead("arrived", self.input.taken, counts.margin_min_ms / 1000)
        ratio = self.input.to / self.input.rate
        missing = [(round(self.input.sample_at(first)), round(samples * ratio)) for first, samples in counts.ranges]
        if missing:
            self.recording.add_missing(missing)

    def place(self, voice: Voice, sample: int) -> int:
        """The page's place at a sample of a voice's slot."""
        return round(self.input.place_at(voice.origin + sample))

    def send(self, **message: Any) -> None:
        self.outbox.send(message)


def fade_in(sound: np.ndarray, rate: int) -> np.ndarray:
    """Fade in audio [n], over FADE or all of it."""
    steps = min(len(sound), round(FADE * rate))
    return np.concatenate([sound[:steps] * np.linspace(0, 1, steps, dtype=np.float32), sound[steps:]])


def cross_fade(before: np.ndarray, after: np.ndarray, rate: int) -> np.ndarray:
    """Cross-fade from one sound [n] to the other, over FADE or all of it."""
    steps = min(len(after), round(FADE * rate))
    gain = np.linspace(0, 1, steps, dtype=np.float32)
    return np.concatenate([before[:steps] * (1 - gain) + after[:steps] * gain, after[steps:]])
