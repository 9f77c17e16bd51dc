"""A WAV file that grows while it is written, and is valid whenever the process may die.

Samples are 32-bit float, so that values beyond full scale are kept. They are appended first, and only then counted in
the header. Space is reserved for the header of RF64 (EBU Tech 3306), which it becomes beyond 4 GB.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import pack

import numpy as np

from accomp.core.files import write_atomic
from accomp.core.trouble import named

SAMPLE = 4  # bytes
_FLOAT = 3  # WAVE_FORMAT_IEEE_FLOAT
_IN_DS64 = 2**32 - 1
_HEADER = 12 + 36 + 26 + 12 + 8
"""Bytes before the samples: of RIFF, JUNK or ds64, fmt, fact and data."""


def header(samples: int, rate: int, limit: int = _IN_DS64) -> bytes:
    """Header of a file of `samples` mono samples at `rate` Hz. Sizes from `limit` bytes on are those of RF64."""
    size = samples * SAMPLE
    whole = _HEADER - 8 + size
    large = whole >= limit
    sizes = pack("<QQQI", whole, size, samples, 0)
    return b"".join((
        b"RF64" if large else b"RIFF", pack("<I", _IN_DS64 if large else whole), b"WAVE",
        b"ds64" if large else b"JUNK", pack("<I", len(sizes)), sizes if large else bytes(len(sizes)),
        b"fmt ", pack("<IHHIIHHH", 18, _FLOAT, 1, rate, rate * SAMPLE, SAMPLE, 8 * SAMPLE, 0),
        b"fact", pack("<II", 4, _IN_DS64 if large else samples),
        b"data", pack("<I", _IN_DS64 if large else size),
    ))  # fmt: skip


class LiveWav:
    """A mono file at `path`, replacing an earlier one; must be closed.

    Attributes:
        samples: number of its samples.
    """

    def __init__(self, path: Path, rate: int):
        """Raises OSError, with the path, if it cannot be written; so does `append`."""
        self.path, self.samples, self._rate = path, 0, rate
        write_atomic(path, header(0, rate))
        with named(path):
            self._handle = os.open(path, os.O_RDWR)

    def append(self, sound: np.ndarray) -> None:
        """Append samples [N]. On a full disk, as many as fit."""
        data = memoryview(np.ascontiguousarray(sound, dtype="<f4").tobytes())
        begin, done = _HEADER + self.samples * SAMPLE, 0
        try:
            with named(self.path):
                while done < len(data):
                    done += os.pwrite(self._handle, data[done:], begin + done)
        finally:
            self.samples += done // SAMPLE
            with named(self.path):
                os.pwrite(self._handle, header(self.samples, self._rate), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)
