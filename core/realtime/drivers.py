"""The audio side of real time, and a recording that the model hears as it sounds, by the clock on the wall."""

from __future__ import annotations

import threading
import time
from typing import Protocol

import numpy as np

from accomp.core.realtime.audio_bridge import AudioBridge


class AudioDriver(Protocol):
    """What calls a schedule's `exchange`, from a thread of its own.

    Attributes:
        over: there is nothing left to play.
        xruns: blocks that the audio side itself came too late for.
    """

    over: bool
    xruns: int

    def start(self) -> None: ...
    def stop(self) -> None:
        """Returns once no block is exchanged any more; raises what has gone wrong there."""
        ...

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
        """What was heard and what was played to it since it was last asked, both [n], the same sample at the same time.

        The main thread's, every few seconds at least, and once, as the `last`, after `stop`. None if nobody keeps it.
        """
        ...


class FilePlayback:
    """A recording [N] that is heard as it sounds: while its block j is, block j of the output is played to it.

    So block j of the output is taken when the blocks before j have been heard.

    Attributes:
        place: samples played so far.
        sound, played: the recording, and what was played to it up to `place`.
    """

    def __init__(self, schedule: AudioBridge, sound: np.ndarray):
        self._schedule = schedule
        self.sound, self.played, self.place = sound, np.zeros(len(sound), dtype=np.float32), 0
        self._block = np.zeros(schedule.block, dtype=np.float32)
        self._told = 0

    @property
    def over(self) -> bool:
        """All of it has been played."""
        return self.place >= len(self.sound)

    def step(self) -> slice:
        """Play the next block, the last of which may be short; where in `sound` and `played` it lies. Never waits."""
        size = self._schedule.block
        now = slice(self.place, min(self.place + size, len(self.sound)))
        before = self.sound[now.start - size : now.start] if now.start else None
        self._schedule.exchange(before, self.played[now])
        self.place = now.stop
        return now

    def fresh(self) -> tuple[np.ndarray, np.ndarray]:
        """As AudioDriver says."""
        now = slice(self._told, self.place)
        self._told = now.stop
        return self.sound[now], self.played[now].copy()


class TimerDriver:
    """Takes a block of a feed whenever one would have to be heard; an AudioDriver."""

    def __init__(self, feed: FilePlayback, seconds: float):
        """seconds: how long a block lasts."""
        self.over, self.xruns = False, 0
        self._feed, self._seconds = feed, seconds
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="audio", daemon=True)

    def start(self) -> None:
        """Begin now."""
        self._thread.start()

    def stop(self) -> None:
        """As AudioDriver says."""
        self._stopped.set()
        self._thread.join()
        if self._failure:
            raise self._failure

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """As AudioDriver says."""
        return self._feed.fresh()

    def _run(self) -> None:
        try:
            self._play()
        except Exception as error:  # told by stop()
            self._failure = error
        self.over = True

    def _play(self) -> None:
        began = time.perf_counter()
        number = 0
        while not self._feed.over and not self._stopped.is_set():
            wait = began + number * self._seconds - time.perf_counter()
            if wait > 0:
                self._stopped.wait(wait)
                if self._stopped.is_set():
                    return
            elif -wait > self._seconds:
                self.xruns += 1
            self._feed.step()
            number += 1
