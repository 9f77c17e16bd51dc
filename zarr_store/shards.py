"""Clips out of a one-shard Zarr array, in microseconds.

Zarr's own reader takes some 3 ms to plan a selection of any size. Training reads a thousand small ones a second, so
here a shard is read as its specification lays it out: at the end the index, (offset, bytes) of each inner chunk as
little-endian uint64 and four bytes of checksum; before it the chunks, each compressed by Blosc.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numcodecs import blosc

from accomp.zarr_store.layout import StoreError
from accomp.zarr_store.places import ObjectPath, ranges, size_of


class Shard:
    """An array [rows, T, ...] whose single shard is chunked along T, one row a chunk."""

    def __init__(self, folder: Path | ObjectPath):
        """`folder` is the array's. Raises StoreError where it is missing, broken, or laid out in another way."""
        self._folder = folder
        try:
            metadata = json.loads((folder / "zarr.json").read_bytes())
            self.shape = tuple(metadata["shape"])
            self.dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
            (sharding,) = metadata["codecs"]
            self._chunk = tuple(sharding["configuration"]["chunk_shape"])
            chain = [codec["name"] for codec in sharding["configuration"]["codecs"]]
            self._file = folder.joinpath("c", *["0"] * len(self.shape))
            self._index = self._read_index()
        except FileNotFoundError as error:
            raise StoreError(f"part of the store is gone; ingest again @ {self._folder}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(self._broken(error)) from error
        if chain != ["bytes", "blosc"] or self._chunk[0] != 1 or self._chunk[2:] != self.shape[2:]:
            raise StoreError(f"an array laid out in a way this version does not read @ {folder}")

    def _read_index(self) -> np.ndarray:
        chunks = -(-self.shape[1] // self._chunk[1])
        size = self.shape[0] * chunks * 16
        end = size_of(self._file) - 4
        with ranges(self._file) as read:
            index = np.frombuffer(read(end - size, size), dtype="<u8").reshape(self.shape[0], chunks, 2)
        if (index > end).any() or (index.sum(axis=-1) > end).any():
            raise ValueError("its index points outside the file")
        return index

    def read(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """[stop - start, ...] of one row. Raises IndexError outside the array and StoreError for a broken file."""
        stop = self.shape[1] if stop is None else stop
        if not (0 <= row < self.shape[0] and 0 <= start <= stop <= self.shape[1]):
            raise IndexError(f"row {row}, frames {start} to {stop} of an array of shape {self.shape}")
        length = self._chunk[1]
        first, last = start // length, -(-stop // length)
        out = np.empty(((last - first) * length, *self.shape[2:]), dtype=self.dtype)
        try:
            with ranges(self._file) as part:
                for number in range(first, last):
                    offset, size = self._index[row, number]
                    place = out[(number - first) * length : (number - first + 1) * length]
                    blosc.decompress(part(int(offset), int(size)), place)
        except FileNotFoundError as error:
            raise StoreError(f"part of the store is gone; ingest again @ {self._folder}") from error
        except (OSError, ValueError, RuntimeError) as error:
            raise StoreError(self._broken(error)) from error
        return out[start - first * length : stop - first * length]

    def _broken(self, error: Exception) -> str:
        return f"broken array ({error}); delete the folder of this track and ingest again @ {self._folder}"
