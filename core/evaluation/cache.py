"""What was dear to find out about a sound, kept by the content of the sound: in memory, and on disk for other runs."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from accomp.core.files import write_atomic
from accomp.core.trouble import raise_trouble

_CRC = 4  # bytes of the checksum at the end of a file


class Cache:
    """Arrays by the hash of who computed them and of the audio they were computed from.

    With a folder, each is a .npy file there, its CRC-32 behind it, and any number of processes may use it at once: a
    file appears whole or not at all, and two that compute the same at the same time write the same. Nothing is ever
    stale, since another version of the one who computes, or another sample, is another key; the folder may be deleted
    at any time.
    """

    def __init__(self, folder: Path | None = None):
        self._folder = folder
        self._held: dict[str, np.ndarray] = {}

    def array(self, what: str, audio: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """compute(audio), read-only; only computed where neither memory nor the folder has it.

        `what` names all that the answer depends on beside `audio` [N] (read as float32): who computes, its version, its
        settings and weights, the rate. A file that cannot be read is computed again and replaced.
        """
        audio = np.ascontiguousarray(audio, dtype=np.float32)
        key = hashlib.sha256(what.encode() + b"\0" + audio.tobytes()).hexdigest()
        if key not in self._held:
            value = self._read(key)
            if value is None:
                value = np.array(compute(audio))
                self._write(key, value)
            value.flags.writeable = False
            self._held[key] = value
        return self._held[key]

    def _path(self, folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key[2:]}.npy"

    def _read(self, key: str) -> np.ndarray | None:
        if self._folder is None:
            return None
        try:
            data = self._path(self._folder, key).read_bytes()
            if zlib.crc32(data[:-_CRC]).to_bytes(_CRC, "little") != data[-_CRC:]:
                return None  # rotten, or of an earlier accomp
            return np.load(io.BytesIO(data), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise_trouble(error)
            return None

    def _write(self, key: str, value: np.ndarray) -> None:
        if self._folder is not None:
            file = io.BytesIO()
            np.save(file, value, allow_pickle=False)
            data = file.getvalue()
            write_atomic(self._path(self._folder, key), data + zlib.crc32(data).to_bytes(_CRC, "little"))
