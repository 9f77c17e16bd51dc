"""Reader of TensorFlow checkpoints ("tensor bundles") without TensorFlow.

PREFIX.index is a sorted string table: blocks of key-value pairs with prefix-compressed keys; the last 48 bytes locate
the index block. A value is a protocol buffer with the position of a tensor in PREFIX.data-00000-of-00001.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from accomp.core.errors import DataError

MAGIC = 0xDB4775248B80FB57
FLOAT = 1  # the number of float32 among TensorFlow's types
FOOTER = 48


def read_bundle(index: Path) -> dict[str, np.ndarray]:
    """Name -> float32 tensor of the checkpoint whose file PREFIX.index is given; tensors of other types are skipped.

    Raises DataError for a file that is missing, damaged, compressed, or split into several.
    """
    data = index.with_name(index.name.removesuffix(".index") + ".data-00000-of-00001")
    for path in (index, data):
        if not path.is_file():
            raise DataError(f"a TensorFlow checkpoint is two files, '{index.name}' and '{data.name}'; missing @ {path}")
    content = data.read_bytes()
    try:
        entries = {key.decode(): _Entry(value) for key, value in _table(index.read_bytes()) if key}
        tensors = {name: entry.tensor(content) for name, entry in entries.items() if entry.type == FLOAT}
    except (ValueError, IndexError, struct.error) as error:
        raise DataError(f"not a TensorFlow checkpoint, or a damaged one: {error} @ {index}") from error
    return tensors


class _Entry:
    """Location of a tensor: BundleEntryProto {1 dtype, 2 shape {2 dim {1 size}}, 3 shard, 4 offset, 5 size}."""

    def __init__(self, message: bytes):
        fields = dict(_fields(message))
        self.type = fields.get(1, 0)
        dims = [dict(_fields(value)) for number, value in _fields(fields.get(2, b"")) if number == 2]
        self._shape = [dim.get(1, 0) for dim in dims]
        self._shard, self._offset, self._size = (fields.get(number, 0) for number in (3, 4, 5))

    def tensor(self, content: bytes) -> np.ndarray:
        end = self._offset + self._size
        if self._shard or end > len(content) or self._size != 4 * math.prod(self._shape):
            raise ValueError(f"a tensor of shape {self._shape} at bytes {self._offset} to {end} of {len(content)}")
        return np.frombuffer(content, "<f4", math.prod(self._shape), self._offset).reshape(self._shape).copy()


def _table(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield all pairs of a sorted string table."""
    footer = file[-FOOTER:]
    if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("its end is not that of a table")
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    for _, value in _block(file, *index):
        yield from _block(file, *_handle(value, 0)[0])


def _block(file: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = file[offset : offset + size]
    if file[offset + size]:
        raise ValueError("a block is compressed")
    (restarts,) = struct.unpack("<I", block[-4:])
    at, end, key = 0, size - 4 * (restarts + 1), b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + length]
        at += length


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of a protocol buffer: ints, or bytes where it holds a message; fixed 32 and 64 bits as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of wire type {kind}")
        length, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        yield number, message[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the varint at `at` (seven bits per byte) and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
