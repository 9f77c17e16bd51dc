"""Crash-safe recordings: a thread of its own writes audio as it comes, into files that are always valid."""

from __future__ import annotations

import json
import os
import queue
import shutil
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define, field

from accomp.core.audio.loudness import mix_for_listening
from accomp.core.console import warn
from accomp.core.files import write_atomic
from accomp.core.runs.player import Player
from accomp.core.serving.playing import fitting
from accomp.core.serving.protocol.messages import Start

INPUT, STEM, AS_HEARD, MIX, MANIFEST = "input.wav", "stem.wav", "heard.wav", "mix.wav", "manifest.json"
REPORT = "report.html"
NAMES = (INPUT, STEM, AS_HEARD, MIX, REPORT, MANIFEST)
AHEAD_EVERY = 0.5
"""Seconds of which the least lead of the output is kept."""
MOST_WAITING = 5000
"""Most queued writes."""
HEADER_EVERY = 0.5
"""Seconds of audio between updates of a file's header."""


class WavFile:
    """A WAV file of float32, mono, that can be read at any time: its header never counts more than is there."""

    def __init__(self, path: Path, rate: int):
        self._file = path.open("wb")
        self._rate, self.samples, self._in_header = rate, 0, -1
        self._write_header()

    def write(self, sound: np.ndarray) -> None:
        """Append samples [n]."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(np.ascontiguousarray(sound, "<f4").tobytes())
        self.samples += len(sound)
        if self.samples - self._in_header >= HEADER_EVERY * self._rate:
            self._write_header()

    def close(self) -> None:
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        self._file.flush()
        size = 4 * self.samples
        format = struct.pack("<IHHIIHHH", 18, 3, 1, self._rate, 4 * self._rate, 4, 32, 0)  # 3: IEEE float
        head = b"RIFF" + struct.pack("<I", 50 + size) + b"WAVEfmt " + format
        head += b"fact" + struct.pack("<II", 4, self.samples) + b"data" + struct.pack("<I", size)
        self._file.seek(0)
        self._file.write(head)
        self._file.flush()
        self._in_header = self.samples


@define(eq=False)
class Recording:
    """Input and output of one session, at the codec's rate; sample n of both files is simultaneous.

    Methods are for any thread and never wait for the disk.

    Attributes:
        manifest: metadata; written anew with every `note`.
        failure: reason for which writing has stopped; "" while it continues.
    """

    folder: Path
    rate: int
    manifest: dict[str, Any]
    recorder: Recorder
    most_bytes: int
    failure: str = field(default="", init=False)
    _files: dict[str, WavFile] = field(factory=dict, init=False)
    _missing: list[tuple[int, int]] = field(factory=list, init=False)
    _ahead: dict[str, dict[int, float]] = field(factory=dict, init=False)
    _closed: bool = field(default=False, init=False)

    def add_input(self, sample: int, sound: np.ndarray) -> None:
        """Record input [n] from a sample on."""
        self.recorder.do(self, lambda: self._write(INPUT, sample, sound))

    def add_output(self, sample: int, sound: np.ndarray) -> None:
        """Record output [n] from a sample on; samples before 0 are left out."""
        self.recorder.do(self, lambda: self._write(STEM, sample, sound))

    def add_missing(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Record dropouts: (first, samples) of output that was missing at the page."""
        self.recorder.do(self, lambda: self._missing.extend(ranges))

    def add_ahead(self, where: str, sample: int, seconds: float) -> None:
        """Record the lead of output at a sample; where: "sent" or "arrived", as the report's curves."""
        self.recorder.do(self, lambda: self._note_ahead(where, sample, seconds))

    def note(self, **fields: Any) -> None:
        """Add to the manifest; lists there are extended."""
        self.recorder.do(self, lambda: self._note(fields))

    def end(self, done: Callable[[list[dict[str, Any]]], None]) -> None:
        """Write the derived files, then call `done`, from the recorder's thread, with all files."""
        self.recorder.do(self, lambda: self._end(done), always=True)

    def _write(self, name: str, sample: int, sound: np.ndarray) -> None:
        if self._closed:
            return
        file = self._files.get(name) or self._files.setdefault(name, WavFile(self.folder / name, self.rate))
        gap = sample - file.samples
        if gap > 0:
            file.write(np.zeros(gap, np.float32))
        if file.samples * 8 > self.most_bytes:
            self.failure = f"the recording has reached its limit of {self.most_bytes / 1e6:.0f} MB"
            return
        file.write(sound[max(0, -gap) :])

    def _note_ahead(self, where: str, sample: int, seconds: float) -> None:
        period, least = int(sample / self.rate // AHEAD_EVERY), self._ahead.setdefault(where, {})
        least[period] = min(seconds, least.get(period, seconds))

    def _note(self, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            if isinstance(value, list):
                self.manifest.setdefault(name, []).extend(value)
            else:
                self.manifest[name] = value
        write_atomic(self.folder / MANIFEST, json.dumps(self.manifest, indent=1) + "\n")

    def _end(self, done: Callable[[list[dict[str, Any]]], None]) -> None:
        self._closed = True
        try:
            for file in self._files.values():
                file.close()
            sounds = self._derive() if self._files else {}
            ahead = {
                where: [[AHEAD_EVERY * period, round(1000 * least[period], 1)] for period in sorted(least)]
                for where, least in self._ahead.items()
            }
            missing = [list(pair) for pair in self._missing]
            self._note({"ended": _now(), "missing": missing, "ahead_ms": ahead, "failure": self.failure})
            self._report(sounds)
        finally:
            done([{"name": name, "bytes": (self.folder / name).stat().st_size} for name in self._there()])

    def _there(self) -> list[str]:
        return [name for name in NAMES if (self.folder / name).is_file()]

    def _derive(self) -> dict[str, np.ndarray]:
        """Write the stem with its dropouts, and the mix of that and the input, both equally loud -> files, by name."""
        sounds = [_read(self.folder / name) for name in (INPUT, STEM)]
        length = min(map(len, sounds))
        played_input, stem = (sound[:length].copy() for sound in sounds)
        for first, samples in self._missing:
            stem[max(0, first) : max(0, first + samples)] = 0
        mix = mix_for_listening(played_input, stem, self.rate, stems=1, above_db=0.0)
        for name, sound in ((AS_HEARD, stem), (MIX, mix)):
            file = WavFile(self.folder / name, self.rate)
            file.write(sound)
            file.close()
        return {INPUT: sounds[0], AS_HEARD: stem, MIX: mix}

    def _report(self, sounds: dict[str, np.ndarray]) -> None:
        """Write the page."""
        from accomp.core.serving.playing.recording_report import RecordedFile, recording_page

        labels = {INPUT: "Context (input of the model)", AS_HEARD: "Stem, as it was played", MIX: "Mix of both"}
        files = [RecordedFile(labels[name], name, sound, made=name == AS_HEARD) for name, sound in sounds.items()]
        write_atomic(self.folder / REPORT, recording_page(self.manifest, files, self.rate))


class Recorder:
    """The writing thread, and the folder of all recordings."""

    def __init__(self, folder: Path, *, most_bytes: int = 2_000_000_000, days: float = 30.0):
        """most_bytes: of one recording; days: until one is removed. Makes the folder; raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._most, self._days = folder, most_bytes, days
        self._todo: queue.Queue[tuple[Recording, Callable[[], None], bool]] = queue.Queue()
        self.sweep()
        threading.Thread(target=self._work, name="recorder", daemon=True).start()

    def begin(self, name: str, rate: int, manifest: dict[str, Any]) -> Recording:
        """Start a recording in a folder of that name. Raises OSError."""
        folder = self.folder / name
        folder.mkdir()
        recording = Recording(folder, rate, {"began": _now(), **manifest}, self, self._most)
        recording.note()
        return recording

    def do(self, recording: Recording, work: Callable[[], None], *, always: bool = False) -> None:
        """Queue work for the thread; skipped if the recording has failed, unless `always`."""
        if self._todo.qsize() > MOST_WAITING and not always:
            recording.failure = recording.failure or "the disk is too slow for the recording"
        self._todo.put((recording, work, always))

    def flush(self, seconds: float = 10.0) -> None:
        """Wait until all queued work is done, or for so many `seconds`."""
        done = threading.Event()
        self._todo.put((None, done.set, True))  # type: ignore[arg-type]  # of no recording
        done.wait(seconds)

    def sweep(self) -> None:
        """Remove recordings that are too old."""
        for folder in self.folder.iterdir():
            manifest = folder / MANIFEST
            if manifest.is_file() and time.time() - manifest.stat().st_mtime > self._days * 86400:
                shutil.rmtree(folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            recording, work, always = self._todo.get()
            if recording is not None and recording.failure and not always:
                continue
            try:
                work()
            except Exception as error:  # a full disk, for example; other recordings go on
                if not recording.failure:
                    warn(f"a recording ends here: {error} @ {recording.folder}")
                recording.failure = str(error)


def _read(path: Path) -> np.ndarray:
    import soundfile

    sound, _ = soundfile.read(str(path), dtype="float32")
    return np.asarray(sound)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def manifest_of(run: str, player: Player, request: Start, path: fitting.Path) -> dict[str, Any]:
    """Run, settings and latencies (ms) of a session, for the manifest of its recording."""
    return {
        "run": run, "step": player.step, "weights": player.weights, "sampler": type(player.sampler).__name__,
        "instrument": request.instrument, "temperature": request.temperature, "seed": request.seed,
        "metronome": str(request.metronome), "chart": request.chart, "page_rate": path.rate,
        "first_ms": round(1000 * path.first, 3), "rtt_p99_ms": round(1000 * path.rtt, 3),
    }  # fmt: skip
