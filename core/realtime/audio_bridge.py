"""The bridge between audio driver and model in real time: an audio side that never waits, and a model side that runs
ahead.

The audio side hands over a block of input and takes a block of output, in a callback of a sound device or by a timer.
The model side, a thread of its own, pushes the input into a session and writes its output, so that chunk n + 1 is
computed while chunk n plays. Between them are ring buffers (ring_buffers.py).

Output sample n belongs to input sample n in all cases. A sample that is not there at its place is missing (a dropout):
the available part of the block is played, then it fades to silence, and fades in again where samples are in time
(concealment.py). A sample after its place is dropped, so that later ones are at theirs. Input that finds its buffer
full is lost (an overrun); the model reads zeros instead, so that its time stays right. All of this is counted.
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
"""Seconds of the fade to silence and back; a block where that is shorter."""

INPUT_BUFFER = 2.0
"""Seconds of input that are buffered for a late model; at least two chunks. Further input is lost."""

IDLE = 0.001
"""Polling interval of the model side in seconds."""

STEPS_KEPT = 2**16
"""Number of last steps whose times are kept."""


class Session(Protocol):
    """The session that plays: core.streaming.audio_session.AudioSession, of one row."""

    def push(self, audio: Tensor) -> None: ...
    def pull(self, *, ahead: bool = False) -> Tensor: ...


@frozen
class PlaybackStats:
    """Counters of the audio side.

    Attributes:
        place: of the next sample to play.
        delivered, missing: samples that were at their place, and places without one.
        gaps: runs of missing samples (dropouts).
        late: chunks with a missing sample.
        dropped: samples that came after their place.
        overruns, lost: blocks of input that found the buffer full, and their samples.
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
    """Buffers between the two sides: `exchange` is for the audio side alone, `read_input` and `write_output` for the
    model's.
    """

    def __init__(self, *, rate: int, block: int, chunk: int, delay: int = 0, first: int = 0, ahead: int = 0):
        """Times in samples but for the rate (Hz).

        block: size of the audio side's blocks. chunk: size of the model's output; chunk c plays at places
        c * chunk - delay on. first: the place of the first output sample, 0 or more. ahead: lead of the model over the
        played output, at most.
        """
        self.rate, self.block, self.chunk = rate, block, chunk
        self._delay, self._first = delay, first
        buffered = max(round(INPUT_BUFFER * rate), 2 * chunk)
        self._input = BlockFifo(-(-buffered // block) + 1, block)
        self._output = SampleRing(ahead + 2 * (chunk + block), past=first)
        self._concealer = GapConcealer(min(block, max(1, round(FADE * rate))), block)
        # of the audio side
        self._place, self._taken = first, 0
        self._delivered = self._missing = self._gaps = self._late = self._overruns = 0
        self._late_up_to = 0  # chunks before this one are counted
        self._silent = False
        # of the model side
        self._samples_in = 0
        self._next: tuple[int, np.ndarray] | None = None

    def exchange(self, x: np.ndarray | None, out: np.ndarray) -> None:
        """x [block]: the next input, None if there is none yet; out [block]: becomes the next output.

        Never waits. Only the last `out` may be shorter than a block.
        """
        if x is not None:
            if not self._input.put(self._taken, x):
                self._overruns += 1
            self._taken += self.block
        there = self._output.read(self._place, out)
        if there < len(out):
            self._count_missing(self._place + there, self._place + len(out), begins=there > 0 or not self._silent)
        self._silent = there < len(out)
        self._delivered += there
        self._concealer.fill(out, there)
        self._place += len(out)

    def read_input(self) -> np.ndarray | None:
        """Return the next input, up to a block, zeros where it was lost; None if there is none yet."""
        self._next = self._next or self._input.get()
        if self._next is None:
            return None
        place, samples = self._next
        if place > self._samples_in:
            samples = np.zeros(min(place - self._samples_in, self.block), dtype=np.float32)
        else:
            self._next = None
        self._samples_in += len(samples)
        return samples

    def write_output(self, output: np.ndarray) -> int:
        """Write the next output samples; returns how many found room. The others are to be written again later."""
        return self._output.write(output)

    @property
    def margin(self) -> int:
        """Samples by which the next output is ahead of its place; negative if it is late."""
        return self._output.written - self._place

    def counts(self) -> PlaybackStats:
        """The counters so far; exact once the audio side has ended."""
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
    """Durations of the model's steps: blocks of input with which output came. Written by the model side alone.

    Attributes:
        count: steps so far; times are kept of the last STEPS_KEPT.
        busy: seconds spent in the session, with output or without.
    """

    def __init__(self) -> None:
        self._seconds = np.zeros(STEPS_KEPT)
        self._margins = np.zeros(STEPS_KEPT, dtype=np.int64)
        self.count = 0
        self.busy = 0.0

    def add(self, seconds: float, margin: int) -> None:
        """Record a finished step, and `AudioBridge.margin` at its end."""
        self._seconds[self.count % STEPS_KEPT] = seconds
        self._margins[self.count % STEPS_KEPT] = margin
        self.count += 1

    def seconds(self, last: int = STEPS_KEPT) -> np.ndarray:
        """Durations of the last steps (s), the oldest first."""
        return self._seconds[self._slots(last)]

    def margins(self, last: int = STEPS_KEPT) -> np.ndarray:
        """Samples by which the last steps were ahead of the place of their first sample, the oldest first."""
        return self._margins[self._slots(last)]

    def _slots(self, last: int) -> np.ndarray:
        count = self.count
        return np.arange(max(0, count - min(last, STEPS_KEPT)), count) % STEPS_KEPT


class ModelWorker:
    """Runs a session between input and output; all its methods are for one thread."""

    def __init__(self, bridge: AudioBridge, session: Session, device: torch.device | str = "cpu"):
        self.steps = Steps()
        self._bridge, self._session, self._device = bridge, session, device

    def begin(self) -> None:
        """Write the output that precedes all input, before the audio side starts."""
        output = self._pull()
        room = self._bridge.write_output(output)
        assert room == len(output), "the bridge holds `ahead` samples"

    def step(self, ended: threading.Event) -> bool:
        """Process the next block of input, if there is one, and write its output; False without input."""
        x = self._bridge.read_input()
        if x is None:
            return False
        start = time.perf_counter()
        self._session.push(torch.from_numpy(x)[None].to(self._device))
        output = self._pull()
        seconds = time.perf_counter() - start
        self.steps.busy += seconds
        if len(output):
            self.steps.add(seconds, self._bridge.margin)
        output = output[self._bridge.write_output(output) :]
        while len(output) and not ended.wait(IDLE):
            output = output[self._bridge.write_output(output) :]
        return True

    def run(self, ended: threading.Event) -> None:
        """Process blocks until `ended` is set."""
        while not ended.is_set():
            if not self.step(ended):
                ended.wait(IDLE)

    def _pull(self) -> np.ndarray:
        return self._session.pull(ahead=True)[0].float().cpu().numpy()
