"""Real time: an audio side that never waits, a model side that plays ahead of it, and what happens when it is late.

The audio side hands over a block of input and takes a block of output, in a callback of a sound device or by the clock
on the wall. The model side, a thread of its own, pushes the input into a session and puts down what comes out, so that
chunk n + 1 is made while chunk n is heard. Between them lie rings (rings.py).

Output sample n belongs to input sample n, whatever happens. A sample that is not there at its place is missing: what
is there of the block is heard, then the sound fades into silence, and fades in again where samples are in time
(seams.py). A sample that comes after its place is dropped, so that those behind it are at theirs. Input that finds its
ring full is lost; the model hears zeros in its place, so that its time stays right. All of this is counted.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from accomp.core.realtime.concealment import GapConcealer
from accomp.core.realtime.ring_buffers import BlockFifo, SampleRing

FADE = 0.005
"""Seconds in which sound fades into silence, and in again; a block where that is shorter."""

PATIENCE = 2.0
"""Seconds of input that wait for a model that is late; at least two chunks. What comes on top is lost."""

IDLE = 0.001
"""Seconds after which the model side looks again whether there is input."""

REMEMBERED = 2**16
"""Steps of which the times are kept: the last ones."""


class Session(Protocol):
    """What plays: core.streaming.session.AudioSession, of one row."""

    def push(self, audio: Tensor) -> None: ...
    def pull(self, *, ahead: bool = False) -> Tensor: ...


@frozen
class PlaybackStats:
    """What the audio side has seen so far.

    Attributes:
        place: of the sample that is heard next.
        delivered, missing: samples that were at their place, and places without one.
        gaps: runs of missing samples.
        late: chunks of which a sample was missing.
        dropped: samples that came after their place.
        overruns, lost: blocks of input that found the ring full, and their samples.
        buffered: samples that are there beyond `place`.
    """

    place: int
    delivered: int
    missing: int
    gaps: int
    late: int
    dropped: int
    overruns: int
    lost: int
    buffered: int


class AudioBridge:
    """What lies between the sides: `exchange` is for the audio side alone, `hear` and `put_down` for the model's."""

    def __init__(self, *, rate: int, block: int, chunk: int, delay: int = 0, first: int = 0, ahead: int = 0):
        """Times in samples but for the rate (Hz).

        block: what the audio side hands over and takes at a time. chunk: what the model makes at a time; chunk c is
        heard at places c * chunk - delay on. first: the place of the first sample that is taken, 0 or more. ahead: by
        how much the model may be ahead of what is heard.
        """
        self.rate, self.block, self.chunk = rate, block, chunk
        self._delay, self._first = delay, first
        patience = max(round(PATIENCE * rate), 2 * chunk)
        self._input = BlockFifo(-(-patience // block) + 1, block)
        self._output = SampleRing(ahead + 2 * (chunk + block), past=first)
        self._seams = GapConcealer(min(block, max(1, round(FADE * rate))), block)
        # the audio side's
        self._place, self._taken = first, 0
        self._delivered = self._missing = self._gaps = self._late = self._overruns = 0
        self._late_up_to = 0  # chunks before this one are counted
        self._silent = False
        # the model side's
        self._heard = 0
        self._next: tuple[int, np.ndarray] | None = None

    def exchange(self, heard: np.ndarray | None, out: np.ndarray) -> None:
        """heard [block]: the next input, None where there is none yet; out [block]: becomes the next output.

        Never waits. Only the last `out` may be shorter than a block.
        """
        if heard is not None:
            if not self._input.put(self._taken, heard):
                self._overruns += 1
            self._taken += self.block
        there = self._output.read(self._place, out)
        if there < len(out):
            self._count_missing(self._place + there, self._place + len(out), begins=there > 0 or not self._silent)
        self._silent = there < len(out)
        self._delivered += there
        self._seams.fill(out, there)
        self._place += len(out)

    def hear(self) -> np.ndarray | None:
        """The next input, up to a block, zeros where it was lost; None where there is none yet."""
        self._next = self._next or self._input.get()
        if self._next is None:
            return None
        place, samples = self._next
        if place > self._heard:
            samples = np.zeros(min(place - self._heard, self.block), dtype=np.float32)
        else:
            self._next = None
        self._heard += len(samples)
        return samples

    def put_down(self, made: np.ndarray) -> int:
        """The next output samples; returns how many found room. The others are to be put down again later."""
        return self._output.write(made)

    @property
    def margin(self) -> int:
        """By how many samples the next one to be put down is ahead of its place; negative where it is late."""
        return self._output.written - self._place

    def counts(self) -> PlaybackStats:
        """What has been counted so far; exact once the audio side has ended."""
        place, delivered, written = self._place, self._delivered, self._output.written
        return PlaybackStats(
            place=place,
            delivered=delivered,
            missing=self._missing,
            gaps=self._gaps,
            late=self._late,
            dropped=max(0, min(written, place) - self._first - delivered),
            overruns=self._overruns,
            lost=self._overruns * self.block,
            buffered=max(0, written - place),
        )

    def _count_missing(self, begin: int, end: int, *, begins: bool) -> None:
        self._missing += end - begin
        self._gaps += begins
        first = max(self._late_up_to, (begin + self._delay) // self.chunk)
        self._late_up_to = (end - 1 + self._delay) // self.chunk + 1
        self._late += max(0, self._late_up_to - first)


class Steps:
    """How long the model took for each block of input with which output came. Written by the model side alone.

    Attributes:
        count: steps since the beginning; of REMEMBERED the times are kept.
        busy: seconds spent in the session, whether output came or not.
    """

    def __init__(self) -> None:
        self._seconds = np.zeros(REMEMBERED)
        self._margins = np.zeros(REMEMBERED, dtype=np.int64)
        self.count = 0
        self.busy = 0.0

    def add(self, seconds: float, margin: int) -> None:
        """A step that is done, and the `Schedule.margin` that it found then."""
        self._seconds[self.count % REMEMBERED] = seconds
        self._margins[self.count % REMEMBERED] = margin
        self.count += 1

    def seconds(self, last: int = REMEMBERED) -> np.ndarray:
        """What the last steps took (s), the oldest first."""
        return self._seconds[self._slots(last)]

    def margins(self, last: int = REMEMBERED) -> np.ndarray:
        """By how many samples the last steps came ahead of the place of their first sample, the oldest first."""
        return self._margins[self._slots(last)]

    def _slots(self, last: int) -> np.ndarray:
        count = self.count
        return np.arange(max(0, count - min(last, REMEMBERED)), count) % REMEMBERED


class ModelWorker:
    """A session at work between input and output; all its methods are for one thread."""

    def __init__(self, schedule: AudioBridge, session: Session, device: torch.device | str = "cpu"):
        self.steps = Steps()
        self._schedule, self._session, self._device = schedule, session, device

    def begin(self) -> None:
        """Put down what the session plays before it hears anything, before the audio side begins."""
        made = self._pulled()
        room = self._schedule.put_down(made)
        assert room == len(made), "a schedule holds what its `ahead` says"

    def step(self, ended: threading.Event) -> bool:
        """Hear the next block, if there is one, and put down what comes out; False where there was none."""
        heard = self._schedule.hear()
        if heard is None:
            return False
        began = time.perf_counter()
        self._session.push(torch.from_numpy(heard)[None].to(self._device))
        made = self._pulled()
        took = time.perf_counter() - began
        self.steps.busy += took
        if len(made):
            self.steps.add(took, self._schedule.margin)
        made = made[self._schedule.put_down(made) :]
        while len(made) and not ended.wait(IDLE):
            made = made[self._schedule.put_down(made) :]
        return True

    def run(self, ended: threading.Event) -> None:
        """Play until `ended` is set."""
        while not ended.is_set():
            if not self.step(ended):
                ended.wait(IDLE)

    def _pulled(self) -> np.ndarray:
        return self._session.pull(ahead=True)[0].float().cpu().numpy()
