"""Audio drivers: the audio side of real-time playing; here one by a timer, to a recording."""

from __future__ import annotations

import threading
import time
from typing import Protocol

import numpy as np

from accomp.core.realtime.audio_bridge import AudioBridge


class AudioDriver(Protocol):
    """Calls the `exchange` of an AudioBridge from a thread of its own.

    Attributes:
        over: nothing is left to play.
        xruns: blocks for which the audio side itself was late.
    """

    over: bool
    xruns: int

    def start(self) -> None: ...
    def stop(self) -> None:
        """Return once no block is exchanged any more; raises errors of the audio side."""
        ...

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
        """Input and output since the last call, both [n], the same sample at the same time; None if not recorded.

        For the main thread, every few seconds at least, and once, as the `last`, after `stop`.
        """
        ...


class FilePlayback:
    """A recording [N] played in real time: while its block j plays, block j of the output plays to it.

    So block j of the output is taken when the input before block j has been handed over.

    Attributes:
        place: samples played so far.
        sound, played: the recording, and the output to it up to `place`.
    """

    def __init__(self, bridge: AudioBridge, sound: np.ndarray):
        self._bridge = bridge
        self.sound, self.played, self.place = sound, np.zeros(len(sound), dtype=np.float32), 0
        self._block = np.zeros(bridge.block, dtype=np.float32)
        self._fetched = 0

    @property
    def over(self) -> bool:
        """Whether all of it has been played."""
        return self.place >= len(self.sound)

    def step(self) -> slice:
        """Play the next block, the last of which may be short; returns its slice of `sound` and `played`. Never
        waits.
        """
        size = self._bridge.block
        now = slice(self.place, min(self.place + size, len(self.sound)))
        before = self.sound[now.start - size : now.start] if now.start else None
        self._bridge.exchange(before, self.played[now])
        self.place = now.stop
        return now

    def fresh(self) -> tuple[np.ndarray, np.ndarray]:
        """See AudioDriver."""
        now = slice(self._fetched, self.place)
        self._fetched = now.stop
        return self.sound[now], self.played[now].copy()


class TimerDriver:
    """Takes a block of a file playback whenever it is due; an AudioDriver."""

    def __init__(self, feed: FilePlayback, seconds: float):
        """seconds: duration of a block."""
        self.over, self.xruns = False, 0
        self._feed, self._seconds = feed, seconds
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="audio", daemon=True)

    def start(self) -> None:
        """Start now."""
        self._thread.start()

    def stop(self) -> None:
        """See AudioDriver."""
        self._stopped.set()
        self._thread.join()
        if self._failure:
            raise self._failure

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """See AudioDriver."""
        return self._feed.fresh()

    def _run(self) -> None:
        try:
            self._play()
        except Exception as error:  # raised by stop()
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
