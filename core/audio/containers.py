"""Length claims of audio containers, checked against the file.

Headers are unreliable: a recorder that lost power leaves a length of 0, a pipe leaves none, an interrupted copy is too
short, and damage gives any value. libsndfile trusts some of them silently, so they are parsed here too. By format:

    WAV, RF64, BW64 (RIFF; EBU Tech 3306), AIFF and AIFC, W64, CAF      bytes of the chunk of samples against the file's
    Ogg (RFC 3533)                                                     the last page must have the end-of-stream flag
    FLAC (RFC 9639)                                                    samples of STREAMINFO, 0 where unknown
    MP3                                                                presence of a length in a Xing or Info frame
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from accomp.core.errors import DataError

DENSEST = 65_536
"""Upper bound of samples a byte in any format: FLAC's longest block of a constant takes more than a byte."""

_STREAMED = 0x7FFF_F000  # 32-bit lengths from here on are written by programs that cannot seek back to the header
_CHUNKS = 10_000  # limit of chunks before the samples
_FLAC_TOTAL = slice(21, 26)  # of the file: "fLaC", a block header of 4 bytes, then STREAMINFO


def check_length(path: Path) -> None:
    """Raise DataError for a file that is shorter than its container claims, or whose container claims to be empty
    though it is not. Unknown formats pass.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        magic = file.read(12)
        if magic[:4] == b"OggS":
            _check_ogg(file, size, path)
        elif (chunks := _chunks(magic, file)) is not None:
            _check_chunks(chunks, size, path)


def flac_samples(path: Path) -> int | None:
    """Return the samples that a FLAC file's STREAMINFO claims, 0 where it says "unknown"; None for any other file."""
    with path.open("rb") as file:
        head = file.read(_FLAC_TOTAL.stop)
    if head[:4] != b"fLaC" or len(head) < _FLAC_TOTAL.stop:
        return None
    return int.from_bytes(head[_FLAC_TOTAL], "big") & (2**36 - 1)


def without_flac_length(head: bytes) -> bytes:
    """Return the first bytes of a FLAC file with the number of samples set to "unknown"."""
    changed = bytearray(head)
    changed[_FLAC_TOTAL.start] &= 0xF0
    changed[_FLAC_TOTAL.start + 1 : _FLAC_TOTAL.stop] = bytes(4)
    return bytes(changed)


def is_mp3_of_unknown_length(path: Path) -> bool:
    """Test for MPEG audio whose first frame has no length, so that any length given for it is a guess."""
    with path.open("rb") as file:
        head = file.read(10)
        start = 0
        if head[:3] == b"ID3" and len(head) == 10:  # its length has 7 bits a byte
            start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        file.seek(start)
        frame = file.read(4096)
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0 or frame[1] & 0x06 == 0:
        return False
    return not any(word in frame for word in (b"Xing", b"Info", b"VBRI"))


def _chunks(magic: bytes, file: BinaryIO) -> Iterator[tuple[bytes, int, int | None]] | None:
    """Yield (name, offset of its content, bytes it claims) of each chunk; None for a format without such chunks."""
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return _riff(file, ">" if magic[:4] == b"RIFX" else "<")
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return _walk(file, 12, ">4sI", padding=2)
    if magic[:4] == b"riff":
        return _walk(file, 40, "<16sQ", padding=8, counts_itself=True)
    if magic[:4] == b"caff":
        return _walk(file, 8, ">4sq", padding=1)
    return None


def _riff(file: BinaryIO, order: str) -> Iterator[tuple[bytes, int, int | None]]:
    long: int | None = None
    for name, place, size in _walk(file, 12, f"{order}4sI", padding=2):
        if name == b"ds64":
            file.seek(place + 8)
            long = int.from_bytes(file.read(8), "little")
        yield name, place, long if name == b"data" and size == 0xFFFF_FFFF and long is not None else size


def _walk(
    file: BinaryIO, start: int, layout: str, *, padding: int, counts_itself: bool = False
) -> Iterator[tuple[bytes, int, int | None]]:
    place, header, end = start, struct.calcsize(layout), os.fstat(file.fileno()).st_size
    for _ in range(_CHUNKS):
        file.seek(place)
        head = file.read(header)
        if len(head) < header:
            return
        name, size = struct.unpack(layout, head)
        content = place + header
        size -= header if counts_itself else 0
        yield name[:4], content, size
        place = content + -(-size // padding) * padding
        if size < 0 or place > end:  # 64 bits may claim what no file offset can express
            return


def _check_chunks(chunks: Iterator[tuple[bytes, int, int | None]], size: int, path: Path) -> None:
    for name, place, claimed in chunks:
        if name not in (b"data", b"SSND") or claimed is None or claimed < 0 or _STREAMED <= claimed < 2**32:
            continue
        there = size - place
        if claimed > there:
            raise DataError(
                f"the file ends before its header says: {max(0, there):,} of {claimed:,} bytes of sound are there, so "
                f"a copy or a recording broke off; get it again, or save what is there anew in an audio editor @ {path}"
            )
        if claimed == 0 and there > 0:
            raise DataError(
                f"the header says that no sound is in the file, though {there:,} bytes follow: the recorder was "
                f"stopped before it wrote the length; repair it in an audio editor (import as raw data) @ {path}"
            )
        return


def _check_ogg(file: BinaryIO, size: int, path: Path) -> None:
    """Check that the last page has the flag "end of stream" and is complete."""
    file.seek(max(0, size - 2**16 - 2**9))
    tail = file.read()
    start = tail.rfind(b"OggS")
    page = tail[start:] if start >= 0 else b""
    whole = (
        len(page) >= 27 and len(page) >= 27 + page[26] and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    )
    if not whole or not page[5] & 4:
        raise DataError(
            f"the file ends before its last page, so a copy or a recording broke off; get it again, or save what is "
            f"there anew in an audio editor @ {path}"
        )
