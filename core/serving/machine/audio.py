"""A sound device of the server's machine in the place of a page's audio: it hears and plays for the one session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from accomp.core.serving.machine.place_times import PlaceTimes
from accomp.core.serving.machine.placed_output import FADE, PlacedOutput
from accomp.core.serving.playing.calibration import LONGEST, Loopback, measure_frames, probe
from accomp.core.serving.protocol.frames import DISCONTINUITY, HEARD, PROBED, Frame
from accomp.core.serving.protocol.messages import Machine

SETTLE = 3.0
"""Seconds that a device runs before it is measured."""
SLOW = 5.0
"""Seconds that a device may lag behind the clock while it is measured."""
LEAD = 0.3
"""Seconds from the request of a measurement to the probe."""
CLICK = 0.1
CLICK_HZ = {True: 1760.0, False: 1320.0}
CLICK_LEVEL = 0.35
CLIPPED = 0.999


class Device(Protocol):
    """An open sound device: core.realtime.sound_device.SoundDevice."""

    over: bool
    xruns: int
    latency_out: float

    @property
    def first(self) -> int: ...
    def join(self, handler: Any) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class MachineAudio:
    """Input and output of a device, by places: sample n since its start. Output place n is put down with input place
    n - first, so that it sounds when input n is heard; a BlockHandler.

    `handle` is for the device's callback, which never waits for the model; the rest is for other threads.

    Attributes:
        name, rate, block: of the device.
        first: loopback latency in samples.
    """

    def __init__(self, device: Device, *, name: str, rate: int, block: int, now: Callable[[], float] = time.monotonic):
        self.name, self.rate, self.block, self.first = name, rate, block, device.first
        self._device, self._now = device, now
        self._place, self._times = 0, PlaceTimes(rate)
        self._listen: Callable[[Frame], None] | None = None
        self._chunk: int | None = None  # of a session whose output has not begun
        self._schedule: PlacedOutput | None = None
        self._number, self._broken, self._xruns = 0, True, 0
        self._gain = self._wanted = self.volume = 1.0
        self._silent = False
        self._clicks: dict[int, np.ndarray] = {}  # place of a click's first sample -> its samples
        self._probe: tuple[int, np.ndarray] | None = None
        self._probed: list[Frame] = []
        self._peak, self._clipped = 0.0, 0
        self._lock = threading.Lock()  # of those who change sessions; the callback does not take it
        self._measuring = threading.Lock()
        self._began = time.monotonic()
        device.join(self)

    # --- the callback

    def handle(self, x: np.ndarray | None, out: np.ndarray | None) -> bool:
        """See BlockHandler."""
        assert x is not None, "a device that hears"
        assert out is not None, "and plays"
        place, self._place = self._place, self._place + self.block
        self._times.note(place, self._now())
        self._hear(place, x)
        if (schedule := self._schedule) is None:
            out[:] = 0
        else:
            schedule.exchange(place + self.first, out)
        self._turn(out)
        self._click(place, out)
        self._play_probe(place, out)
        np.clip(out, -1, 1, out=out)
        return True

    def fresh(self, *, last: bool = False) -> None:
        """See AudioDriver: recordings are made elsewhere."""

    def _hear(self, place: int, x: np.ndarray) -> None:
        peak = float(np.abs(x).max(initial=0.0))
        self._peak = max(self._peak, peak)
        self._clipped += peak >= CLIPPED
        xruns = self._device.xruns
        self._broken |= xruns > self._xruns
        self._xruns = xruns
        if self._probe is not None:
            self._probed.append(Frame(PROBED, place, x.copy()))
        if (listen := self._listen) is not None:
            listen(Frame(HEARD, place, x.copy(), self._number, DISCONTINUITY if self._broken else 0))
            self._number, self._broken = self._number + 1, False

    def _turn(self, out: np.ndarray) -> None:
        """Approach the wanted gain within FADE."""
        step = np.sign(self._wanted - self._gain) / (FADE * self.rate)
        gain = self._gain + step * np.arange(1, len(out) + 1, dtype=np.float32)
        low, high = sorted((self._gain, self._wanted))
        gain = np.clip(gain, low, high)
        out *= gain
        self._gain = float(gain[-1])

    def _click(self, place: int, out: np.ndarray) -> None:
        for begin, sound in list(self._clicks.items()):
            if begin + len(sound) <= place:
                self._clicks.pop(begin, None)
            else:
                _mix(out, place, begin, sound)

    def _play_probe(self, place: int, out: np.ndarray) -> None:
        if (playing := self._probe) is not None:
            out[:] = 0
            _mix(out, place, *playing)

    # --- sessions

    @property
    def place(self) -> int:
        """Place of the next block."""
        return self._place

    def place_at(self, time: float) -> float:
        """The place of what sounds at a time (s, of `now`)."""
        return self._times.place_at(time) + self.first - self._device.latency_out * self.rate

    @property
    def in_use(self) -> bool:
        """Whether a session plays through the device."""
        return self._listen is not None

    def begin(self, listen: Callable[[Frame], None], *, chunk: int, first: float) -> None:
        """Hand each block of input to `listen` from now on. chunk: size of the model's output in the device's samples;
        first: loopback latency (s).
        """
        with self._lock:
            self.first = round(first * self.rate)
            self._chunk, self._schedule = chunk, None
            self._gain = self._wanted = self.volume
            self._silent, self._broken = False, True
            self._listen = listen

    def expect(self, place: int) -> None:
        """Expect output from this place on."""
        with self._lock:
            if self._chunk is None:
                return
            now = self._place + self.first
            self._schedule = PlacedOutput(self.rate, self.block, chunk=self._chunk, now=now, begin=place)
            self._chunk = None

    def take(self, frame: Frame) -> None:
        """Add a frame of output."""
        if (schedule := self._schedule) is not None:
            schedule.put(frame.place, frame.samples)

    def clear(self) -> None:
        """Drop the output that is there."""
        if (schedule := self._schedule) is not None:
            schedule.clear()

    def end(self) -> None:
        """End the session: no more input is handed over, and output fades out."""
        with self._lock:
            self._listen, self._chunk = None, None
            self._wanted = 0.0
            self._clicks = {}

    def move(self, first: float) -> None:
        """Change the loopback latency (s)."""
        with self._lock:
            self.first = round(first * self.rate)

    def set_gain(self, *, volume: float | None = None, silent: bool | None = None) -> None:
        """Set the volume of the accompaniment, or silence it."""
        if volume is not None:
            self.volume = volume
        if silent is not None:
            self._silent = silent
        self._wanted = 0.0 if self._silent else self.volume

    def click(self, place: int, *, strong: bool) -> None:
        """Play a click that belongs to this place of the input."""
        at = place - self.first
        if at >= self._place:
            self._clicks = {**self._clicks, at: click_sound(self.rate, strong=strong)}

    def hush(self) -> None:
        """Drop clicks to come."""
        self._clicks = {}

    def apply(self, wish: Machine) -> None:
        """Move, set, click and hush as a client asks."""
        if wish.first_ms is not None:
            self.move(wish.first_ms / 1000)
        if wish.volume is not None or wish.silent is not None:
            self.set_gain(volume=wish.volume, silent=wish.silent)
        if wish.click is not None:
            self.click(wish.click, strong=wish.strong)
        if wish.hush:
            self.hush()

    # --- measuring

    def measure(self, pause: Callable[[float], None] = time.sleep) -> Loopback:
        """Play the probe and find it in the input. Blocks for some seconds; not while a session plays."""
        if self.in_use or not self._measuring.acquire(blocking=False):
            return Loopback(False, why="the device is in use by another page; stop there first")
        try:
            return self._measure(pause)
        finally:
            self._measuring.release()

    def _measure(self, pause: Callable[[float], None]) -> Loopback:
        pause(max(0.0, self._began + SETTLE - time.monotonic()))
        sound = probe(self.rate)
        self._probed = []
        begin = self._place + round(LEAD * self.rate)
        self._probe = (begin, sound)
        try:
            pause(LEAD + len(sound) / self.rate + LONGEST)
            for _ in range(round(SLOW / 0.1)):
                if self._place >= begin + len(sound) + round(LONGEST * self.rate):
                    break
                pause(0.1)
        finally:
            self._probe = None
        if self._device.over:
            return Loopback(False, why="the sound device has stopped; start the server anew")
        return measure_frames(list(self._probed), begin, self.rate)

    def state(self, *, playing: bool) -> dict[str, Any]:
        """State for a page, in the shape of its own audio's reports; what is new since the last call.

        playing: it is the page of the session.
        """
        peak, clipped = self._peak, self._clipped
        self._peak, self._clipped = 0.0, 0
        schedule = self._schedule if playing else None
        return {
            "place": self._place, "peakIn": peak, "clipped": clipped, "breaks": self._device.xruns,
            "counts": None if schedule is None else schedule.news(), "over": self._device.over,
        }  # fmt: skip

    def close(self) -> None:
        """Stop and release the device."""
        try:
            self._device.stop()
        finally:
            self._device.close()

    def start(self) -> None:
        """Start the device."""
        self._began = time.monotonic()
        self._device.start()


def click_sound(rate: int, *, strong: bool) -> np.ndarray:
    """A click [n] float32: a tone that decays within CLICK seconds."""
    t = np.arange(round(CLICK * rate)) / rate
    level = CLICK_LEVEL * np.where(t < 0.01, 1.0, np.exp(-(t - 0.01) / 0.012))
    return (level * np.sin(2 * np.pi * CLICK_HZ[strong] * t)).astype(np.float32)


def _mix(out: np.ndarray, place: int, begin: int, sound: np.ndarray) -> None:
    """Add a sound that begins at `begin` to the block at `place`."""
    first, last = max(place, begin), min(place + len(out), begin + len(sound))
    if first < last:
        out[first - place : last - place] += sound[first - begin : last - begin]
