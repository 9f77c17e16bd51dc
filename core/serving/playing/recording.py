"""Recordings that survive a kill: sound is written as it comes, by a thread of its own, into files that are whole."""

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

INPUT, STEM, AS_HEARD, MIX, MANIFEST = "input.wav", "stem.wav", "heard.wav", "mix.wav", "manifest.json"
NAMES = (INPUT, STEM, AS_HEARD, MIX, MANIFEST)
MOST_WAITING = 5000
"""Pieces that may wait for the disk."""
HEADER_EVERY = 0.5
"""Seconds of sound after which a file's header tells of it."""


class WavFile:
    """A WAV file of float32, mono, that can be read at any time: its header never speaks of more than is there."""

    def __init__(self, path: Path, rate: int):
        self._file = path.open("wb")
        self._rate, self.samples, self._told = rate, 0, -1
        self._tell()

    def write(self, sound: np.ndarray) -> None:
        """Append samples [n]."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(np.ascontiguousarray(sound, "<f4").tobytes())
        self.samples += len(sound)
        if self.samples - self._told >= HEADER_EVERY * self._rate:
            self._tell()

    def close(self) -> None:
        self._tell()
        self._file.close()

    def _tell(self) -> None:
        self._file.flush()
        size = 4 * self.samples
        format = struct.pack("<IHHIIHHH", 18, 3, 1, self._rate, 4 * self._rate, 4, 32, 0)  # 3: IEEE float
        head = b"RIFF" + struct.pack("<I", 50 + size) + b"WAVEfmt " + format
        head += b"fact" + struct.pack("<II", 4, self.samples) + b"data" + struct.pack("<I", size)
        self._file.seek(0)
        self._file.write(head)
        self._file.flush()
        self._told = self.samples


@define(eq=False)
class Recording:
    """What one session heard and played, at the codec's rate; sample n of both files is of the same time.

    Methods are for any thread and never wait for the disk.

    Attributes:
        manifest: what is told beside the sound; written anew with every `note`.
        failure: why no more is written; "" while all is well.
    """

    folder: Path
    rate: int
    manifest: dict[str, Any]
    recorder: Recorder
    most_bytes: int
    failure: str = field(default="", init=False)
    _files: dict[str, WavFile] = field(factory=dict, init=False)
    _missing: list[tuple[int, int]] = field(factory=list, init=False)
    _closed: bool = field(default=False, init=False)

    def heard(self, sample: int, sound: np.ndarray) -> None:
        """Input [n] from a sample on."""
        self.recorder.do(self, lambda: self._write(INPUT, sample, sound))

    def played(self, sample: int, sound: np.ndarray) -> None:
        """Output [n] from a sample on; what lies before sample 0 is left out."""
        self.recorder.do(self, lambda: self._write(STEM, sample, sound))

    def missed(self, ranges: Sequence[tuple[int, int]]) -> None:
        """(first, samples) of output that the musician did not hear."""
        self.recorder.do(self, lambda: self._missing.extend(ranges))

    def note(self, **told: Any) -> None:
        """Add to the manifest; what is a list there grows."""
        self.recorder.do(self, lambda: self._note(told))

    def end(self, done: Callable[[list[dict[str, Any]]], None]) -> None:
        """Write what is made of both files, then call `done`, from the recorder's thread, with what there is."""
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

    def _note(self, told: dict[str, Any]) -> None:
        for name, value in told.items():
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
            if self._files:
                self._derive()
            self._note({"ended": _now(), "missing": [list(pair) for pair in self._missing], "failure": self.failure})
        finally:
            done([{"name": name, "bytes": (self.folder / name).stat().st_size} for name in self._there()])

    def _there(self) -> list[str]:
        return [name for name in NAMES if (self.folder / name).is_file()]

    def _derive(self) -> None:
        """The stem as it was heard, and the mix of that and the input, both equally loud."""
        sounds = [_read(self.folder / name) for name in (INPUT, STEM)]
        length = min(map(len, sounds))
        heard, stem = (sound[:length].copy() for sound in sounds)
        for first, samples in self._missing:
            stem[max(0, first) : max(0, first + samples)] = 0
        for name, sound in ((AS_HEARD, stem), (MIX, mix_for_listening(heard, stem, self.rate, stems=1, above_db=0.0))):
            file = WavFile(self.folder / name, self.rate)
            file.write(sound)
            file.close()


class Recorder:
    """The thread that writes, and the folder in which every recording has one of its own."""

    def __init__(self, folder: Path, *, most_bytes: int = 2_000_000_000, days: float = 30.0):
        """most_bytes: of one recording; days: after which one is removed. Makes the folder; raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._most, self._days = folder, most_bytes, days
        self._todo: queue.Queue[tuple[Recording, Callable[[], None], bool]] = queue.Queue()
        self.sweep()
        threading.Thread(target=self._work, name="recorder", daemon=True).start()

    def begin(self, name: str, rate: int, manifest: dict[str, Any]) -> Recording:
        """A new recording in a folder of that name. Raises OSError."""
        folder = self.folder / name
        folder.mkdir()
        recording = Recording(folder, rate, {"began": _now(), **manifest}, self, self._most)
        recording.note()
        return recording

    def do(self, recording: Recording, work: Callable[[], None], *, always: bool = False) -> None:
        """Work for the thread; left out where the recording has failed, unless `always`."""
        if self._todo.qsize() > MOST_WAITING and not always:
            recording.failure = recording.failure or "the disk is too slow for the recording"
        self._todo.put((recording, work, always))

    def flush(self, seconds: float = 10.0) -> None:
        """Returns once all is written that was asked for before, or after so long."""
        done = threading.Event()
        self._todo.put((None, done.set, True))  # type: ignore[arg-type]  # of no recording
        done.wait(seconds)

    def sweep(self) -> None:
        """Remove the recordings that are too old."""
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
            except Exception as error:  # a full disk, for one: the others are written all the same
                if not recording.failure:
                    warn(f"a recording ends here: {error} @ {recording.folder}")
                recording.failure = str(error)


def _read(path: Path) -> np.ndarray:
    import soundfile

    sound, _ = soundfile.read(str(path), dtype="float32")
    return np.asarray(sound)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
