"""The audio side of real time at a sound device, through sounddevice (PortAudio), which the extra `live` brings."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from accomp.core.console import warn
from accomp.core.errors import DataError, PluginError
from accomp.core.realtime.audio_bridge import AudioBridge
from accomp.core.realtime.drivers import FilePlayback
from accomp.core.realtime.ring_buffers import BlockFifo

DEVICE = "device"
KEPT = 10.0
"""Seconds of a recording that wait in the callback's ring to be taken over."""


def device_name(path: Path) -> str | None:
    """The name in `device:NAME`, "" for `device` alone, which is the system's own; None for the path of a file."""
    head, colon, name = str(path).partition(":")
    return name if head == DEVICE and (colon or not name) else None


def load_sounddevice() -> ModuleType:
    """The library. Raises PluginError, with the cure, where it or what it needs is missing."""
    try:
        import sounddevice
    except ImportError as error:
        raise PluginError(
            f"playing through a sound device needs the library 'sounddevice' ({error}); run: pip install 'accomp[live]'"
        ) from error
    except OSError as error:  # it is there, PortAudio is not
        raise PluginError(
            f"the library 'sounddevice' does not find PortAudio ({error}); Debian, Ubuntu: apt-get install "
            f"libportaudio2"
        ) from error
    found: ModuleType = sounddevice
    return found


class SoundDevice:
    """An open stream of one channel in, out or both, in blocks of a fixed size; an AudioDriver once it has a part.

    Attributes:
        latency_in, latency_out: from the air to the callback, and from there to the air (s), as PortAudio reckons them.
    """

    def __init__(self, rate: int, block: int, *, input: str | None, output: str | None):
        """Open the devices of these names, "" for the system's own, None for none; not both None.

        Raises PluginError without the library, DataError for devices that there are not or that refuse this rate (Hz).
        """
        library = load_sounddevice()
        self.over, self.xruns = False, 0
        self._part: Part | None = None
        self._failure: Exception | None = None
        self._library, self._rate, self._block = library, rate, block
        kinds = {(True, True): "Stream", (True, False): "InputStream", (False, True): "OutputStream"}
        kind = kinds[input is not None, output is not None]
        callback = {"Stream": self._both, "InputStream": self._in, "OutputStream": self._out}[kind]
        names = [name or None for name in (input, output) if name is not None]
        try:
            self._stream: Any = getattr(library, kind)(
                samplerate=rate,
                blocksize=block,
                device=names[0] if len(names) == 1 else tuple(names),
                channels=1,
                dtype="float32",
                callback=callback,
                finished_callback=self._finished,
            )
        except (library.PortAudioError, ValueError) as error:
            asked = " and ".join(f"{name or 'the default'!r}" for name in names)
            raise DataError(
                f"cannot play through {asked} with one channel at {rate} Hz, the codec's rate: {error}; devices: "
                f"{', '.join(str(one['name']) for one in library.query_devices()) or 'none'}"
            ) from error
        latency = self._stream.latency if kind == "Stream" else (self._stream.latency,) * 2
        self.latency_in = float(latency[0]) if input is not None else 0.0
        self.latency_out = float(latency[1]) if output is not None else 0.0

    @property
    def first(self) -> int:
        """By how many samples a block that is taken sounds later than the one did that is heard with it."""
        return max(self._block, round((self.latency_in + self.latency_out) * self._rate))

    @property
    def waits(self) -> tuple[float, float]:
        """What the device adds to a block before it is heard, and to one that is taken before it sounds (s)."""
        more = self.first / self._rate - self._block / self._rate
        return max(0.0, more - self.latency_out), min(more, self.latency_out)

    def join(self, part: Part) -> None:
        """What is to be done with each block; before `start`."""
        self._part = part

    def start(self) -> None:
        """Begin now."""
        self._stream.start()

    def stop(self) -> None:
        """As AudioDriver says."""
        self._stream.stop()
        if self._failure:
            raise self._failure

    def close(self) -> None:
        """Give the devices back."""
        self._stream.close()

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
        """As AudioDriver says."""
        assert self._part is not None, "joined before it began"
        return self._part.fresh(last=last)

    def _both(self, heard: np.ndarray, out: np.ndarray, count: int, times: Any, status: Any) -> None:
        self._turn(heard[:, 0], out[:, 0], status)

    def _in(self, heard: np.ndarray, count: int, times: Any, status: Any) -> None:
        self._turn(heard[:, 0], None, status)

    def _out(self, out: np.ndarray, count: int, times: Any, status: Any) -> None:
        self._turn(None, out[:, 0], status)

    def _turn(self, heard: np.ndarray | None, out: np.ndarray | None, status: Any) -> None:
        assert self._part is not None, "joined before it began"
        self.xruns += bool(status)
        try:
            goes_on = self._part.turn(heard, out)
        except Exception as error:  # told by stop()
            self._failure = error
            raise self._library.CallbackAbort from error
        if not goes_on:
            raise self._library.CallbackStop

    def _finished(self) -> None:
        self.over = True


class Part(Protocol):
    """What is done with each block at a device."""

    def turn(self, heard: np.ndarray | None, out: np.ndarray | None) -> bool:
        """The callback's: hear a block [block], play one, whichever there is; False once all is over. Never waits."""
        ...

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
        """As AudioDriver says."""
        ...


class Accompanied:
    """A recording and what is played to it, each at half its amplitude, through a device; a Part."""

    def __init__(self, feed: FilePlayback):
        self._feed = feed

    def turn(self, heard: np.ndarray | None, out: np.ndarray | None) -> bool:
        """As Part says."""
        assert out is not None, "a recording is played through an output"
        if self._feed.over:
            out[:] = 0
            return False
        now = self._feed.step()
        count = now.stop - now.start
        np.add(self._feed.sound[now], self._feed.played[now], out=out[:count])
        np.multiply(out[:count], 0.5, out=out[:count])
        out[count:] = 0
        return True

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """As AudioDriver says."""
        return self._feed.fresh()


class Ensemble:
    """What a device hears goes to the model; what the model plays goes to a device, a recording or both; a Part.

    Block j of the output is taken with block j of the input and sounds `first` samples later than that one did, so it
    is the model's output from place j * block + first on.

    Attributes:
        unrecorded: samples that are silent in the recording, because the main thread did not keep up.
    """

    def __init__(self, schedule: AudioBridge, *, first: int, record: bool):
        self.unrecorded = 0
        self._schedule, self._first = schedule, first
        size = schedule.block
        self._out = np.zeros(size, dtype=np.float32)
        self._pair = np.zeros(2 * size, dtype=np.float32)
        self._ring = BlockFifo(round(KEPT * schedule.rate / size) + 1, 2 * size) if record else None
        self._place = 0
        self._told = 0
        self._early = np.zeros(first, dtype=np.float32)  # what was played beyond what was heard, at each moment

    def turn(self, heard: np.ndarray | None, out: np.ndarray | None) -> bool:
        """As Part says."""
        assert heard is not None, "an ensemble hears a device"
        size = self._schedule.block
        self._schedule.exchange(heard, self._out)
        if out is not None:
            out[:] = self._out
        if self._ring is not None:
            self._pair[:size], self._pair[size:] = heard, self._out
            if not self._ring.put(self._place, self._pair):
                self.unrecorded += size
        self._place += size
        return True

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
        """As AudioDriver says."""
        if self._ring is None:
            return None
        size = self._schedule.block
        heard, played = [np.zeros(0, dtype=np.float32)], [self._early]
        while (block := self._ring.get()) is not None:
            place, pair = block
            self._pad(place, heard, played)
            heard.append(pair[:size])
            played.append(pair[size:])
            self._told += size
        if last:
            self._pad(self._place, heard, played)
            if self.unrecorded:
                warn(f"{self.unrecorded} samples of the recording are silent: there was no time to take them over")
        sound, stem = np.concatenate(heard), np.concatenate(played)
        self._early = stem[len(sound) :]
        return sound, stem[: len(sound)]

    def _pad(self, place: int, heard: list[np.ndarray], played: list[np.ndarray]) -> None:
        """Silence up to a place, for blocks that found the ring full."""
        silence = np.zeros(place - self._told, dtype=np.float32)
        heard.append(silence)
        played.append(silence)
        self._told = place
