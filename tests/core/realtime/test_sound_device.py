"""Playing at a sound device: what sounds together belongs together. The device is one that a test turns by hand."""

from __future__ import annotations

import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from accomp.core.audio import io as audio
from accomp.core.clock import LatencyBudget
from accomp.core.errors import CombinationError, DataError, PluginError
from accomp.core.generation.stream import StreamRequest
from accomp.core.realtime import live as realtime
from accomp.core.realtime.audio_bridge import AudioBridge
from accomp.core.realtime.drivers import FilePlayback
from accomp.core.realtime.sound_device import Accompanied, Ensemble, SoundDevice, device_name
from accomp.core.realtime.warmup import WarmUp

RATE, BLOCK = 100, 4


class Library(types.ModuleType):
    """As much of sounddevice as is used; the last stream opened is `stream`."""

    class PortAudioError(Exception):
        pass

    class CallbackStop(Exception):
        pass

    class CallbackAbort(Exception):
        pass

    def __init__(self, latency: tuple[float, float] = (0.03, 0.05)):
        super().__init__("sounddevice")
        self.latency, self.stream, self.trouble = latency, None, ""
        self.Stream, self.InputStream, self.OutputStream = (self._opening(kind) for kind in ("io", "i", "o"))

    def query_devices(self) -> list[dict[str, str]]:
        return [{"name": "Loft"}, {"name": "Cellar"}]

    def _opening(self, kind: str) -> Any:
        def opened(**settings: Any) -> Turned:
            if self.trouble:
                raise self.PortAudioError(self.trouble)
            self.stream = Turned(self, kind, settings)
            return self.stream

        return opened


class Turned:
    """A stream whose callback is called by `turn`, or, once started, by a thread that hears so many blocks of tone."""

    def __init__(self, library: Library, kind: str, settings: dict[str, Any]):
        self.library, self.kind, self.settings = library, kind, settings
        self.latency = library.latency if kind == "io" else library.latency[kind == "o"]
        self.blocks = 0
        self.closed = False

    def turn(self, heard: np.ndarray | None = None, status: str = "") -> np.ndarray:
        """One block; what is played, NaN where nothing was put."""
        out = np.full((self.settings["blocksize"], 1), np.nan, dtype=np.float32)
        given = [] if heard is None else [heard.astype(np.float32)[:, None]]
        buffers = {"io": [*given, out], "i": given, "o": [out]}[self.kind]
        try:
            self.settings["callback"](*buffers, len(out), None, status)
        except (self.library.CallbackStop, self.library.CallbackAbort):
            self.settings["finished_callback"]()
        return out[:, 0]

    def start(self) -> None:
        if self.blocks:
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        for block in np.split(tiny.tone(self.blocks * 0.02, 1), self.blocks):
            self.turn(block)
        self.settings["finished_callback"]()

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setitem(sys.modules, "sounddevice", made)
    return made


def test_what_sounds_with_an_input_sample_is_the_output_sample_of_its_number(library: Library) -> None:
    """3 samples until it is heard and 5 until it sounds: a block sounds 8 samples after the one that it came with."""
    device = SoundDevice(RATE, BLOCK, input="Loft", output="")
    assert library.stream.settings["device"] == ("Loft", None)
    assert device.first == 8
    assert sum(device.waits) == pytest.approx((8 - BLOCK) / RATE)
    schedule = AudioBridge(rate=RATE, block=BLOCK, chunk=6, first=device.first, ahead=100)
    device.join(Ensemble(schedule, first=device.first, record=True))
    schedule.write_output(np.arange(60, dtype=np.float32) + 1)
    heard = np.arange(40) / 100
    sounded = [library.stream.turn(heard[4 * n : 4 * n + 4], status="late" * (n == 3)) for n in range(10)]
    np.testing.assert_array_equal(np.concatenate(sounded), np.arange(8, 48) + 1)
    kept = device.fresh(last=True)
    assert kept is not None
    np.testing.assert_allclose(kept[0], heard)
    np.testing.assert_array_equal(kept[1], [0] * 8 + list(range(9, 41)))
    assert device.xruns == 1
    taken = [schedule.read_input() for _ in range(10)]
    np.testing.assert_allclose(np.concatenate([block for block in taken if block is not None]), heard)


def test_a_recording_is_heard_with_its_accompaniment_and_ends(library: Library) -> None:
    device = SoundDevice(RATE, BLOCK, input=None, output="Cellar")
    assert library.stream.settings["device"] == "Cellar"
    schedule = AudioBridge(rate=RATE, block=BLOCK, chunk=6, ahead=100)
    sound = np.linspace(-1, 1, 10).astype(np.float32)
    device.join(Accompanied(FilePlayback(schedule, sound)))
    stem = np.full(10, 0.5, dtype=np.float32)
    schedule.write_output(stem)
    out = np.concatenate([library.stream.turn() for _ in range(3)])
    np.testing.assert_allclose(out, [*(sound + stem) / 2, 0, 0])
    assert not device.over
    np.testing.assert_array_equal(library.stream.turn(), 0)
    assert device.over
    kept = device.fresh(last=True)
    assert kept is not None
    np.testing.assert_array_equal(kept, [sound, stem])
    taken = [schedule.read_input() for _ in range(3)]
    assert taken[2] is None  # the last whole block and the rest are not heard before the end


def test_a_recording_that_nobody_takes_over_is_silent_there_and_told(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    device = SoundDevice(RATE, BLOCK, input="", output=None)
    schedule = AudioBridge(rate=RATE, block=BLOCK, chunk=6, first=4, ahead=4000)
    device.join(Ensemble(schedule, first=4, record=True))
    for _ in range(260):
        library.stream.turn(np.ones(BLOCK))
    first = device.fresh()
    library.stream.turn(np.ones(BLOCK))
    last = device.fresh(last=True)
    assert first is not None and last is not None  # noqa: PT018
    kept = [np.concatenate(parts) for parts in zip(first, last, strict=True)]
    assert len(kept[0]) == len(kept[1]) == 261 * BLOCK
    silent = int((kept[0] == 0).sum())
    assert silent > 0
    assert (kept[0][-BLOCK:] == 1).all()
    assert f"warning: {silent} samples of the recording are silent" in capsys.readouterr().err


def test_what_goes_wrong_in_the_callback_ends_it_and_is_told(library: Library) -> None:
    class Broken:
        def handle(self, x: Any, out: Any) -> bool:
            raise ValueError("broken")

    device = SoundDevice(RATE, BLOCK, input=None, output="")
    device.join(Broken())  # type: ignore[arg-type]
    library.stream.turn()
    assert device.over
    with pytest.raises(ValueError, match="broken"):
        device.stop()


def test_devices_that_there_are_not_are_told_with_those_that_there_are(library: Library) -> None:
    library.trouble = "Invalid sample rate"
    with pytest.raises(
        DataError, match=r"through 'Attic' .* at 100 Hz, the codec's rate: Invalid sample rate; devices: Loft, Cellar"
    ):
        SoundDevice(RATE, BLOCK, input=None, output="Attic")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(PluginError, match=r"pip install 'accomp\[live\]'"):
        SoundDevice(RATE, BLOCK, input="", output="")
    monkeypatch.delitem(sys.modules, "sounddevice")
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"PortAudio library not found.*apt-get install libportaudio2"):
        SoundDevice(RATE, BLOCK, input="", output="")


def test_a_device_is_closed_where_its_model_is_refused(
    trained: tiny.Trained, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(player: Any, block: int, **_: Any) -> WarmUp:
        return WarmUp(LatencyBudget(player.model.clock, player.tokenizer.space, 0, 0, 0, 0), block, 3, np.ones(3))

    monkeypatch.setattr(realtime, "measure_latency", measured)
    with pytest.raises(CombinationError, match="t_f = 2 frames leaves -40 ms"):
        realtime.stream_live(StreamRequest(trained.run, Path("device"), Path("device"), "Bass"), trained.registry)
    assert library.stream.closed


def test_what_is_a_device_and_what_a_file() -> None:
    assert device_name(Path("device")) == ""
    assert device_name(Path("device:Loft: 2")) == "Loft: 2"
    assert device_name(Path("device.wav")) is None
    assert device_name(Path("devices/in.wav")) is None


@pytest.mark.parametrize("output", ["out.wav", "device"])
def test_the_command_plays_at_a_device(
    trained: tiny.Trained,
    library: Library,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measured(player: Any, block: int, *, labels: Any, waits: tuple[float, float], **_: Any) -> WarmUp:
        library.stream.blocks = 20
        assert sum(waits) == pytest.approx(0.03 + 0.05 * (output == "device") - 0.02, abs=1e-4)
        return WarmUp(LatencyBudget(player.model.clock, player.tokenizer.space, 0, 0, 0, 0), block, 3, np.ones(3))

    monkeypatch.setattr(realtime, "measure_latency", measured)
    monkeypatch.chdir(tmp_path)
    realtime.stream_live(StreamRequest(trained.run, Path("device"), Path(output), "Bass"), trained.registry, force=True)
    assert "played 0.40 s in real time" in capsys.readouterr().out
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ([] if output == "device" else ["out-mix.wav", "out.wav"])
    if output != "device":
        assert len(audio.read(tmp_path / "out.wav", 32000)) == 20 * 640
    assert library.stream.closed
