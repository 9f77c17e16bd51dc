"""Fast reads of clips from a one-shard Zarr array, in microseconds.

Zarr's own reader takes some 3 ms to plan a selection of any size. Training reads a thousand small ones a second, so a
shard is read here by its specification: at the end the index, (offset, bytes) of each inner chunk as little-endian
uint64, and its CRC-32C; before it the chunks, each compressed by Blosc, followed by a CRC-32C of its own since version
5. Every checksum is compared on every read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from struct import Struct

import numpy as np
from google_crc32c import value as crc32c
from numcodecs import blosc

from accomp.zarr_store.arrays import Expected
from accomp.zarr_store.layout import StoreError
from accomp.zarr_store.places import ObjectPath, ranges, size_of

_CRC = 4  # bytes
_BLOSC = Struct("<4xI4xI")
"""Header of Blosc-compressed data: bytes before and after, at 4 and 12 (README_CHUNK_FORMAT of c-blosc)."""


class Damaged(ValueError):
    """A damaged array; the text describes the damage."""


class Shard:
    """An array [rows, T, ...] whose single shard is chunked along T, one row a chunk.

    Attributes:
        checked: True where its chunks carry checksums.
    """

    def __init__(self, folder: Path | ObjectPath, expected: Expected, sha256: str | None = None):
        """Open the array in `folder`; `sha256`, where it is known, is of its metadata.

        Raises Damaged where it is missing, invalid, or another array than expected; OSError for a failure of the disk.
        """
        self._folder = folder
        self.shape, self.dtype = expected.shape, np.dtype(expected.data_type).newbyteorder("<")
        self._file = folder.joinpath("c", *["0"] * len(self.shape))
        try:
            metadata = (folder / "zarr.json").read_bytes()
            if sha256 is not None and hashlib.sha256(metadata).hexdigest() != sha256:
                raise ValueError("its metadata is not what was written")
            self._length, self.checked = expected.chunk_of(json.loads(metadata))
            self._index = self._read_index()
        except FileNotFoundError as error:
            raise Damaged(f"part of array {self._folder.name!r} is gone") from error
        except StoreError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise Damaged(self._broken(error)) from error

    def _read_index(self) -> np.ndarray:
        chunks = -(-self.shape[1] // self._length)
        size = self.shape[0] * chunks * 16
        end = size_of(self._file) - _CRC
        if end < size:
            raise ValueError("it is cut off")
        with ranges(self._file) as read:
            data = _checked(read(end - size, size + _CRC))
        index = np.frombuffer(data, dtype="<u8").reshape(self.shape[0], chunks, 2)
        if (index > end).any() or (index.sum(axis=-1) > end).any():
            raise ValueError("its index points outside the file")
        return index

    def read(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read [stop - start, ...] of one row.

        Raises IndexError outside the array, Damaged for an invalid file, OSError for a failure of the disk.
        """
        stop = self.shape[1] if stop is None else stop
        if not (0 <= row < self.shape[0] and 0 <= start <= stop <= self.shape[1]):
            raise IndexError(f"row {row}, frames {start} to {stop} of an array of shape {self.shape}")
        length = self._length
        first, last = start // length, -(-stop // length)
        out = np.empty(((last - first) * length, *self.shape[2:]), dtype=self.dtype)
        try:
            with ranges(self._file) as part:
                for number in range(first, last):
                    offset, size = self._index[row, number]
                    data = part(int(offset), int(size))
                    place = out[(number - first) * length : (number - first + 1) * length]
                    _unpack(_checked(data) if self.checked else data, place)
        except FileNotFoundError as error:
            raise Damaged(f"part of array {self._folder.name!r} is gone") from error
        except StoreError:
            raise
        except (ValueError, RuntimeError) as error:
            raise Damaged(self._broken(error)) from error
        return out[start - first * length : stop - first * length]

    def _broken(self, error: Exception) -> str:
        return f"broken array {self._folder.name!r} ({error})"


def _checked(data: bytes) -> bytes:
    """Strip and compare the checksum at the end of `data`. Raises ValueError for a mismatch."""
    body = data[:-_CRC]
    if len(data) < _CRC or crc32c(body) != int.from_bytes(data[-_CRC:], "little"):
        raise ValueError("its checksum differs")
    return body


def _unpack(data: bytes, place: np.ndarray) -> None:
    """Decompress into `place`, filled to its last byte. Raises ValueError where `data` holds another amount."""
    if len(data) < _BLOSC.size:
        raise ValueError("a chunk is cut off")
    size, compressed = _BLOSC.unpack_from(data)
    if (size, compressed) != (place.nbytes, len(data)):
        raise ValueError(f"a chunk of {len(data)} bytes holds {size}, expected {place.nbytes}")
    blosc.decompress(data, place)
