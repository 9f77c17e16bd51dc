"""Cache of expensive results by the content of the audio: in memory, and on disk for other runs."""

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
    """Arrays by the hash of the computation and of its audio.

    With a folder, each is a .npy file there, followed by its CRC-32, and any number of processes may use it at once:
    files are written atomically, and concurrent computations of the same key write the same. Entries never become
    stale, since another version of the computation, or another sample, has another key; the folder may be deleted at
    any time.
    """

    def __init__(self, folder: Path | None = None):
        self._folder = folder
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, what: str, audio: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return compute(audio), read-only, from memory or from the folder where it is cached.

        `what` names everything that the result depends on beside `audio` [N] (read as float32): the computation, its
        version, its settings and weights, the rate. A damaged file is computed again and replaced.
        """
        audio = np.ascontiguousarray(audio, dtype=np.float32)
        key = hashlib.sha256(what.encode() + b"\0" + audio.tobytes()).hexdigest()
        if key not in self._arrays:
            value = self._read(key)
            if value is None:
                value = np.array(compute(audio))
                self._write(key, value)
            value.flags.writeable = False
            self._arrays[key] = value
        return self._arrays[key]

    def _path(self, folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key[2:]}.npy"

    def _read(self, key: str) -> np.ndarray | None:
        if self._folder is None:
            return None
        try:
            data = self._path(self._folder, key).read_bytes()
            if zlib.crc32(data[:-_CRC]).to_bytes(_CRC, "little") != data[-_CRC:]:
                return None  # damaged, or of an earlier version
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
