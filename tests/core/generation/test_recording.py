"""What was played is never lost: killed, interrupted, hung up or out of room, the files are whole and hold it."""

# ruff: noqa: SIM117, PT012, RUF043  what is raised comes when the inner block ends
from __future__ import annotations

import os
import pty
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny
import torch

from accomp.core.audio import io as audio
from accomp.core.cli.main import main
from accomp.core.compute.interrupts import SIGNALS, stop_wish
from accomp.core.console import say
from accomp.core.errors import Interrupted, WorkError
from accomp.core.generation import live_wav
from accomp.core.generation import recording as recording_module
from accomp.core.generation import stream as stream_module
from accomp.core.generation.live_wav import LiveWav, header
from accomp.core.generation.recording import Recording
from accomp.core.generation.stream import StreamRequest, stream
from accomp.core.realtime import live as realtime

RATE = 32000


@pytest.fixture(autouse=True)
def heeding():
    """Signals as a terminal gives them: who started these tests may ignore some (nohup, a background job)."""
    numbers = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-2, 2, samples).astype(np.float32)


def whole(path: Path) -> np.ndarray:
    """The samples, by a library that believes the header; the file holds what its header says."""
    sound, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return sound


def full_after(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """A disk that takes `room` more bytes behind the end of files, and then no more."""
    write = os.pwrite
    left = [room]

    def pwrite(handle: int, data: Any, place: int) -> int:
        grows = max(0, place + len(data) - max(place, os.fstat(handle).st_size))
        if grows > left[0]:
            data = data[: len(data) - grows + left[0]]
            if not len(data):
                raise OSError(28, "No space left on device")
        left[0] -= min(grows, left[0])
        return write(handle, data, place)

    monkeypatch.setattr(os, "pwrite", pwrite)


# ------------------------------------------------------------------------------------------------- the file


def test_the_file_is_whole_before_and_after_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, write, looks = noise(7000), os.pwrite, []

    def pwrite(handle: int, data: Any, place: int) -> int:
        half = write(handle, data[: len(data) // 2], place)  # a write may stop halfway
        if place:
            looks.append(len(whole(tmp_path / "a.wav")))
            np.testing.assert_array_equal(whole(tmp_path / "a.wav"), sound[: looks[-1]])
        return half + write(handle, data[half:], place + half)

    file = LiveWav(tmp_path / "a.wav", RATE)
    assert len(whole(tmp_path / "a.wav")) == 0
    monkeypatch.setattr(os, "pwrite", pwrite)
    rng = random.Random(0)
    while file.samples < len(sound):
        file.append(sound[file.samples : file.samples + rng.randrange(900)])
        np.testing.assert_array_equal(whole(tmp_path / "a.wav"), sound[: file.samples])
    file.close()
    assert len(looks) > 5


def test_beyond_4_gb_it_is_rf64(tmp_path: Path) -> None:
    sound = noise(3000)
    (tmp_path / "a.wav").write_bytes(header(3000, RATE, limit=1000) + sound.tobytes())
    np.testing.assert_array_equal(whole(tmp_path / "a.wav"), sound)
    assert soundfile.info(tmp_path / "a.wav").format == "RF64"
    assert header(2**31, RATE)[:4] == b"RF64"
    assert header(2**29, RATE)[:4] == b"RIFF"
    assert len(header(2**31, RATE)) == len(header(0, RATE))


def test_a_disk_that_gets_full_at_any_byte_keeps_all_that_had_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, sound = random.Random(1), noise(5000)
    for turn in range(30):
        room = rng.randrange(4 * len(sound))
        path = tmp_path / f"{turn}.wav"
        file = LiveWav(path, RATE)
        with monkeypatch.context() as patch:
            full_after(patch, room)
            with pytest.raises(OSError, match="No space left") as caught:
                for begin in range(0, len(sound), 640):
                    file.append(sound[begin : begin + 640])
        file.close()
        assert caught.value.filename == str(path)
        assert file.samples == room // 4
        np.testing.assert_array_equal(whole(path), sound[: room // 4])


@pytest.mark.alone
def test_a_process_that_is_killed_leaves_whole_files(tmp_path: Path) -> None:
    """Children that record until they are killed, at random times."""
    rng, sound = random.Random(2), noise(200_000)
    kept = []
    for turn in range(6):
        output = tmp_path / f"{turn}.wav"
        child = os.fork()
        if not child:
            recording = Recording(output, tmp_path / f"{turn}-mix.wav")
            for begin in range(0, len(sound), 160):
                recording.add(sound[begin : begin + 160], sound[begin : begin + 160], RATE)
                time.sleep(0.0005)
            os._exit(0)
        while not (tmp_path / f"{turn}-mix.wav").exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for path in (output, tmp_path / f"{turn}-mix.wav"):
            np.testing.assert_array_equal(whole(path), sound[: len(whole(path))])
        kept.append(len(whole(output)))
    assert max(kept) > 0


# -------------------------------------------------------------------------------------------- the recording


def test_however_it_ends_stem_and_mix_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard, played = 0.3 * noise(6400), 0.2 * noise(6400, 1)
    for suffix in (".wav", ".flac"):
        output, mixed = tmp_path / f"a{suffix}", tmp_path / f"a-mix{suffix}"
        with Recording(output, mixed) as recording:
            recording.add(heard, played, RATE)
        np.testing.assert_allclose(whole(output), played, atol=1e-4)
        assert soundfile.info(output).subtype == "PCM_16"
        assert len(whole(mixed)) == 6400
        assert {path.name for path in tmp_path.iterdir()} == {output.name, mixed.name}
        for error in (KeyboardInterrupt("SIGHUP"), ValueError("broke")):
            output.unlink()
            with pytest.raises(Interrupted if isinstance(error, KeyboardInterrupt) else ValueError) as caught:
                with Recording(output, mixed) as recording:
                    recording.add(heard, played, RATE)
                    raise error
            told = str(caught.value) if isinstance(error, KeyboardInterrupt) else capsys.readouterr().err
            assert f"the output so far, 0.20 s, is kept: {output}" in told
            np.testing.assert_allclose(whole(output), played, atol=1e-4)
        output.unlink()
        mixed.unlink()


def test_an_interrupted_end_leaves_what_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second Ctrl-C comes while the mix is made."""
    calls = []

    def interrupt(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(recording_module, "mix_for_listening", interrupt)
    played = noise(3200)
    with (
        pytest.raises(Interrupted, match=r"is kept, in 32-bit float: .*a\.wav, half of it and the input: .*a-mix\.wav"),
        Recording(tmp_path / "a.wav", tmp_path / "a-mix.wav") as recording,
    ):
        recording.add(np.zeros_like(played), played, RATE)
        recording.finish()
    np.testing.assert_array_equal(whole(tmp_path / "a.wav"), played)
    np.testing.assert_array_equal(whole(tmp_path / "a-mix.wav"), played / 2)
    assert len(calls) == 1
    with pytest.raises(Interrupted, match=r"is kept, in 32-bit float: .*b\.playing\.wav"):
        with Recording(tmp_path / "b.flac", tmp_path / "b-mix.flac") as recording:
            recording.add(np.zeros_like(played), played, RATE)
    np.testing.assert_array_equal(whole(tmp_path / "b.playing.wav"), played)


def test_nothing_played_is_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="nothing was played yet, and nothing was written"):
        with Recording(tmp_path / "a.wav", tmp_path / "a-mix.wav") as recording:
            recording.add(noise(0), noise(0), RATE)
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_at_the_end_too_is_told_with_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = noise(3200)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "a.wav"))

    with (
        pytest.raises(
            WorkError, match=r"the disk is full: No space left .* MB free\); the output so far, 0.10 s, is kept"
        ),
        Recording(tmp_path / "a.wav", tmp_path / "a-mix.wav") as recording,
    ):
        recording.add(played, played, RATE)
        monkeypatch.setattr(recording_module, "write_atomic", fail)
    np.testing.assert_array_equal(whole(tmp_path / "a.wav"), played)


def test_a_stem_of_nan_is_kept_and_told(tmp_path: Path) -> None:
    played = noise(3200)
    played[100] = np.nan
    with pytest.raises(WorkError, match=r"holds NaN or Inf; the output so far, 0.10 s, is kept, in 32-bit float"):
        with Recording(tmp_path / "a.wav", tmp_path / "a-mix.wav") as recording:
            recording.add(played, played, RATE)
    np.testing.assert_array_equal(whole(tmp_path / "a.wav"), played)


# ------------------------------------------------------------------------------------------------ `accomp stream`


@pytest.fixture(scope="module")
def input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "in.wav"
    audio.write(path, tiny.tone(1.6, 1), RATE)
    return path


@pytest.fixture(scope="module")
def expected(trained: tiny.Trained, input: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    output = tmp_path_factory.mktemp("expected") / "out.wav"
    stream(StreamRequest(trained.run, input, output, "Bass"), trained.registry)
    return audio.read(output, RATE)


def at_piece(number: int, what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something happen when the model has played so many pieces."""
    pieces = stream_module._pieces

    def watched(*arguments: Any) -> Any:
        for count, piece in enumerate(pieces(*arguments)):
            if count == number:
                what()
            yield piece

    monkeypatch.setattr(stream_module, "_pieces", watched)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_at_any_piece_keeps_what_was_played(
    trained: tiny.Trained, input: Path, expected: np.ndarray, tmp_path: Path, monkeypatch: Any, number: signal.Signals
) -> None:
    rng = random.Random(int(number))
    for turn in range(3):
        with monkeypatch.context() as patch:
            at_piece(rng.randrange(4, 79), lambda: os.kill(os.getpid(), number), patch)
            with pytest.raises(Interrupted, match=f"interrupted by {number.name}; the output so far, .* s, is kept: "):
                stream(StreamRequest(trained.run, input, tmp_path / "out.wav", "Bass"), trained.registry)
        stem = audio.read(tmp_path / "out.wav", RATE)
        assert 0 < len(stem) < len(expected), turn
        scale = np.abs(expected[: len(stem)]).max() / max(np.abs(stem).max(), 1e-9)
        np.testing.assert_allclose(scale * stem, expected[: len(stem)], atol=1e-3)
        assert len(audio.read(tmp_path / "out-mix.wav", RATE)) == len(stem)


def test_ctrl_c_says_what_is_kept_and_leaves_with_130(
    trained: tiny.Trained, input: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("accomp.core.cli.main.Registry", lambda: trained.registry)
    at_piece(10, lambda: os.kill(os.getpid(), signal.SIGINT), monkeypatch)
    words = ["stream", str(trained.run), "--input", str(input), "--output", str(tmp_path / "o.wav")]
    assert main([*words, "--instrument", "Bass"]) == 130
    err = capsys.readouterr().err
    assert "error: interrupted by SIGINT; the output so far, 0.18 s, is kept" in err
    assert "to go on" not in err


def test_a_full_disk_at_any_byte_keeps_what_had_room(
    trained: tiny.Trained, input: Path, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    for turn in range(3):
        output = tmp_path / f"{turn}.wav"
        with monkeypatch.context() as patch:
            full_after(patch, room := rng.randrange(2000, 8 * len(expected)))
            with pytest.raises(WorkError, match=r"the disk is full: No space left.*\.wav .*is kept, in 32-bit float"):
                stream(StreamRequest(trained.run, input, output, "Bass"), trained.registry)
        stem = whole(output)
        assert 8 * len(stem) >= room - 8 * 640 - 8
        np.testing.assert_allclose(stem * 0.99 / max(0.99, np.abs(stem).max()), expected[: len(stem)], atol=1e-2)


@pytest.mark.alone
def test_killed_while_it_plays_the_files_hold_what_was_played(
    trained: tiny.Trained, input: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    for turn, piece in enumerate((3, 40, 71)):
        output = tmp_path / f"{turn}.wav"
        child = os.fork()
        if not child:
            signal.alarm(120)
            at_piece(piece, lambda: os.kill(os.getpid(), signal.SIGKILL), monkeypatch)
            stream(StreamRequest(trained.run, input, output, "Bass"), trained.registry)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert abs(len(whole(output)) - 640 * piece) <= 640 * 4
        assert len(whole(tmp_path / f"{turn}-mix.wav")) == len(whole(output))


# ---------------------------------------------------------------------------------------------- in real time


class Metronome:
    """An audio side that plays blocks as fast as they are asked for, and lets something happen after some of them."""

    def __init__(self, blocks: int, after: int, what: Any):
        self.over, self.xruns = False, 0
        self.sound = noise(640 * blocks)
        self._asked, self._after, self._what = 0, after, what

    def start(self) -> None:
        """It has begun."""

    def stop(self) -> None:
        """It has stopped."""

    def fresh(self, *, last: bool = False) -> tuple[np.ndarray, np.ndarray]:
        if self._asked == self._after and not last:
            self._what()
        block = self.sound[640 * self._asked : 640 * (self._asked + 1)]
        self._asked += 1
        self.over = 640 * self._asked >= len(self.sound)
        return block, -block


class Thread:
    """Stands for the model's thread."""

    def do(self, _: Any) -> Any:
        class Running:
            def done(self) -> bool:
                return False

            def exception(self, timeout: float) -> None:
                return None

        return Running()


def session(side: Metronome, recording: Recording, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(realtime, "POLL_INTERVAL", 0.001)
    monkeypatch.setattr(realtime, "live_text", lambda *_: "")
    schedule: Any = type("Rate", (), {"rate": RATE})()
    with stop_wish() as wish:
        realtime._play(schedule, None, side, Thread(), recording, wish)  # type: ignore[arg-type]
        recording.finish()
    return wish.signal


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_in_real_time_a_signal_is_a_good_end(tmp_path: Path, monkeypatch: Any, number: signal.Signals) -> None:
    side = Metronome(50, 7, lambda: os.kill(os.getpid(), number))
    with Recording(tmp_path / "a.wav", tmp_path / "a-mix.wav") as recording:
        assert session(side, recording, monkeypatch) == number.name
    stem = whole(tmp_path / "a.wav")
    assert 7 * 640 <= len(stem) <= 10 * 640
    np.testing.assert_allclose(stem, -side.sound[: len(stem)] * 0.99 / np.abs(side.sound[: len(stem)]).max(), atol=1e-3)


def test_in_real_time_a_second_signal_and_a_full_disk_keep_what_was_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    side = Metronome(50, 7, twice)
    with pytest.raises(Interrupted, match="the output so far, 0.14 s, is kept"):
        with Recording(tmp_path / "a.wav", tmp_path / "a-mix.wav") as recording:
            session(side, recording, monkeypatch)
    assert len(whole(tmp_path / "a.wav")) == 7 * 640
    full_after(monkeypatch, 8 * 640 * 5)
    side = Metronome(50, 60, pytest.fail)
    with pytest.raises(WorkError, match=r"the disk is full: .*; the output so far, 0.10 s, is kept, in 32-bit float"):
        with Recording(tmp_path / "b.wav", tmp_path / "b-mix.wav") as recording:
            session(side, recording, monkeypatch)
    np.testing.assert_array_equal(whole(tmp_path / "b.wav"), -side.sound[: 640 * 5])


# ----------------------------------------------------------------------------------------- a terminal that closes


@pytest.mark.alone
def test_work_goes_on_to_its_good_end_when_the_terminal_closes(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if not child:
        signal.alarm(60)
        sys.stdout = os.fdopen(1, "w", closefd=False)  # the terminal's, not what pytest catches
        try:
            with stop_wish() as wish:
                while not wish.signal:
                    say("playing")
                    time.sleep(0.01)
                say("and now the end")
                (tmp_path / "kept").write_text(wish.signal)
        finally:
            os._exit(0)
    assert os.read(terminal, 100)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status), "it was not killed by the signal"
    assert (tmp_path / "kept").read_text() == "SIGHUP"


def test_who_was_told_to_ignore_a_hang_up_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_wish() as wish:
            os.kill(os.getpid(), signal.SIGHUP)
            assert wish.signal == ""
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert threading.current_thread() is threading.main_thread()
    assert len(header(0, RATE)) == live_wav._HEADER
