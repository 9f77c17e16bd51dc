"""A sound device that a test turns by hand, and the server's audio at it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from accomp.core.serving.machine.audio import MachineAudio
from accomp.core.serving.machine.placed_output import PlacedOutput

RATE, BLOCK = 32000, 320


class Turned:
    """A device whose callback is called by `turn`, with PortAudio's shape: input and output [block] of one channel."""

    def __init__(self, first: int = 640, loop: int | None = None):
        """first: as reported. loop: what comes out is heard so many samples later."""
        self.over, self.xruns, self.first, self.loop = False, 0, first, loop
        self.latency_out = 0.0
        self.count = 0
        self.hold(40)
        self.running = False

    def hold(self, seconds: float) -> None:
        """Make room for so much sound."""
        self._heard, self._played = np.zeros((2, round(seconds * RATE)), np.float32)

    def join(self, handler) -> None:
        self.handler = handler

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def close(self) -> None: ...

    @property
    def heard(self) -> np.ndarray:
        return self._heard[: self.count]

    @property
    def played(self) -> np.ndarray:
        return self._played[: self.count]

    def turn(self, x: np.ndarray) -> np.ndarray:
        """Hand over sound, a multiple of the block -> what is played meanwhile."""
        first = self.count
        for block in x.astype(np.float32).reshape(-1, BLOCK):
            now = slice(self.count, self.count + BLOCK)
            if self.loop is not None:
                back = self._played[max(0, self.count - self.loop) : max(0, now.stop - self.loop)]
                block[BLOCK - len(back) :] += back
            self._heard[now] = block
            self._played[now] = np.nan
            assert self.handler.handle(block, self._played[now])
            self.count += BLOCK
        return self._played[first : self.count]


def audio_at(device: Turned) -> MachineAudio:
    """The server's audio; its times are seconds of the device."""
    return MachineAudio(device, name="Loft", rate=RATE, block=BLOCK, now=lambda: device.count / RATE)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, samples).astype(np.float32)


def late(schedule: PlacedOutput) -> bool:
    """Whether the next block would find a hole."""
    end = schedule.place + BLOCK
    return end > schedule._begin and schedule._ring.written < end


@contextmanager
def turning(
    device: Turned,
    audio: MachineAudio,
    sound: np.ndarray,
    *,
    pause: float = BLOCK / RATE,
    before: Callable[[int], None] = lambda number: None,
) -> Iterator[None]:
    """Turn the device meanwhile, by a thread, a block each `pause` s but no faster than the model plays.

    It hears the sound again and again. before: called with the number of each block.
    """
    ended, blocks = threading.Event(), sound.reshape(-1, BLOCK)

    def run() -> None:
        number = 0
        while not ended.wait(pause):
            schedule = audio._schedule
            if audio.in_use and schedule is not None and late(schedule):
                continue
            before(number)
            device.turn(blocks[number % len(blocks)])
            number += 1

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)
