"""Audio driver of sound devices, through sounddevice (PortAudio), from the extra `live`."""

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
RECORDING_BUFFER = 10.0
"""Seconds of recording that the callback's buffer holds for the main thread."""


def device_name(path: Path) -> str | None:
    """The name in `device:NAME`, "" for `device` alone, the system's default; None for the path of a file."""
    head, colon, name = str(path).partition(":")
    return name if head == DEVICE and (colon or not name) else None


def load_sounddevice() -> ModuleType:
    """Import the library. Raises PluginError, with the cure, if it or PortAudio is missing."""
    try:
        import sounddevice
    except ImportError as error:
        raise PluginError(
            f"playing through a sound device needs the library 'sounddevice' ({error}); run: pip install 'accomp[live]'"
        ) from error
    except OSError as error:  # PortAudio is missing
        raise PluginError(
            f"the library 'sounddevice' does not find PortAudio ({error}); Debian, Ubuntu: apt-get install "
            f"libportaudio2"
        ) from error
    found: ModuleType = sounddevice
    return found


def device_rate(input: str, output: str) -> int:
    """The usual rate (Hz) of the devices of these names, "" for the system's default.

    Raises PluginError without the library, DataError for devices that do not exist.
    """
    library = load_sounddevice()
    try:
        rates = [library.query_devices(name or None, kind)["default_samplerate"]
                 for name, kind in ((input, "input"), (output, "output"))]  # fmt: skip
    except (library.PortAudioError, ValueError) as error:
        raise DataError(
            f"no sound device {input or output or 'of the system'!r} that hears and plays: {error}; devices: "
            f"{', '.join(str(one['name']) for one in library.query_devices()) or 'none'}"
        ) from error
    return round(max(rates))


class SoundDevice:
    """An open stream of one channel in, out or both, in blocks of a fixed size; an AudioDriver once it has a handler.

    Attributes:
        latency_in, latency_out: from microphone to callback, and from there to loudspeaker (s), as PortAudio reports.
    """

    def __init__(self, rate: int, block: int, *, input: str | None, output: str | None):
        """Open the devices of these names, "" for the system's default, None for none; not both None.

        Raises PluginError without the library, DataError for devices that do not exist or that refuse this rate (Hz).
        """
        library = load_sounddevice()
        self.over, self.xruns = False, 0
        self._handler: BlockHandler | None = None
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
            tried = " and ".join(f"{name or 'the default'!r}" for name in names)
            raise DataError(
                f"cannot play through {tried} with one channel at {rate} Hz, the codec's rate: {error}; devices: "
                f"{', '.join(str(one['name']) for one in library.query_devices()) or 'none'}"
            ) from error
        latency = self._stream.latency if kind == "Stream" else (self._stream.latency,) * 2
        self.latency_in = float(latency[0]) if input is not None else 0.0
        self.latency_out = float(latency[1]) if output is not None else 0.0

    @property
    def first(self) -> int:
        """Samples by which an output block sounds later than the input block of the same callback."""
        return max(self._block, round((self.latency_in + self.latency_out) * self._rate))

    @property
    def waits(self) -> tuple[float, float]:
        """Latency that the device adds to a block before the model's input, and after its output (s)."""
        more = self.first / self._rate - self._block / self._rate
        return max(0.0, more - self.latency_out), min(more, self.latency_out)

    def join(self, handler: BlockHandler) -> None:
        """Set the handler of each block; before `start`."""
        self._handler = handler

    def start(self) -> None:
        """Start now."""
        self._stream.start()

    def stop(self) -> None:
        """See AudioDriver."""
        self._stream.stop()
        if self._failure:
            raise self._failure

    def close(self) -> None:
        """Release the devices."""
        self._stream.close()

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
        """See AudioDriver."""
        assert self._handler is not None, "join comes before start"
        return self._handler.fresh(last=last)

    def _both(self, x: np.ndarray, out: np.ndarray, count: int, times: Any, status: Any) -> None:
        self._handle(x[:, 0], out[:, 0], status)

    def _in(self, x: np.ndarray, count: int, times: Any, status: Any) -> None:
        self._handle(x[:, 0], None, status)

    def _out(self, out: np.ndarray, count: int, times: Any, status: Any) -> None:
        self._handle(None, out[:, 0], status)

    def _handle(self, x: np.ndarray | None, out: np.ndarray | None, status: Any) -> None:
        assert self._handler is not None, "join comes before start"
        self.xruns += bool(status)
        try:
            proceed = self._handler.handle(x, out)
        except Exception as error:  # raised by stop()
            self._failure = error
            raise self._library.CallbackAbort from error
        if not proceed:
            raise self._library.CallbackStop

    def _finished(self) -> None:
        self.over = True


class BlockHandler(Protocol):
    """Handler of each block at a device."""

    def handle(self, x: np.ndarray | None, out: np.ndarray | None) -> bool:
        """Process an input block [block] and an output block, in a callback; False at the end. Never waits."""
        ...

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
        """See AudioDriver."""
        ...


class Accompanied:
    """A recording and its accompaniment, each at half its amplitude, through a device; a BlockHandler."""

    def __init__(self, feed: FilePlayback):
        self._feed = feed

    def handle(self, x: np.ndarray | None, out: np.ndarray | None) -> bool:
        """See BlockHandler."""
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
        """See AudioDriver."""
        return self._feed.fresh()


class Ensemble:
    """A device's input goes to the model; the model's output goes to a device, a recording or both; a BlockHandler.

    Block j of the output is taken with block j of the input and sounds `first` samples later than that one did, so it
    is the model's output from place j * block + first on.

    Attributes:
        unrecorded: samples that are silent in the recording, because the main thread was late.
    """

    def __init__(self, bridge: AudioBridge, *, first: int, record: bool):
        self.unrecorded = 0
        self._bridge, self._first = bridge, first
        size = bridge.block
        self._out = np.zeros(size, dtype=np.float32)
        self._pair = np.zeros(2 * size, dtype=np.float32)
        self._ring = BlockFifo(round(RECORDING_BUFFER * bridge.rate / size) + 1, 2 * size) if record else None
        self._place = 0
        self._fetched = 0
        self._early = np.zeros(first, dtype=np.float32)  # output beyond the input

    def handle(self, x: np.ndarray | None, out: np.ndarray | None) -> bool:
        """See BlockHandler."""
        assert x is not None, "the input is a device"
        size = self._bridge.block
        self._bridge.exchange(x, self._out)
        if out is not None:
            out[:] = self._out
        if self._ring is not None:
            self._pair[:size], self._pair[size:] = x, self._out
            if not self._ring.put(self._place, self._pair):
                self.unrecorded += size
        self._place += size
        return True

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
        """See AudioDriver."""
        if self._ring is None:
            return None
        size = self._bridge.block
        x, played = [np.zeros(0, dtype=np.float32)], [self._early]
        while (block := self._ring.get()) is not None:
            place, pair = block
            self._pad(place, x, played)
            x.append(pair[:size])
            played.append(pair[size:])
            self._fetched += size
        if last:
            self._pad(self._place, x, played)
            if self.unrecorded:
                warn(f"{self.unrecorded} samples of the recording are silent: there was no time to take them over")
        sound, stem = np.concatenate(x), np.concatenate(played)
        self._early = stem[len(sound) :]
        return sound, stem[: len(sound)]

    def _pad(self, place: int, x: list[np.ndarray], played: list[np.ndarray]) -> None:
        """Append silence up to a place, for blocks that found the buffer full."""
        silence = np.zeros(place - self._fetched, dtype=np.float32)
        x.append(silence)
        played.append(silence)
        self._fetched = place
