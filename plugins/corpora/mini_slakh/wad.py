"""Music lumps of a Doom WAD file: its directory is a table of (offset, size, name)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from accomp.plugins.corpora.mini_slakh.midi import MidiError

MUSIC = (b"MThd", b"MUS\x1a")


def music_lumps(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (lump name, bytes) of every MIDI or MUS lump in order. Raises MidiError for an incomplete or other file."""
    if data[:4] not in (b"IWAD", b"PWAD"):
        raise MidiError(f"not a WAD file: starts with {data[:4]!r}, expected b'IWAD' or b'PWAD'")
    if len(data) < 12:
        raise MidiError(f"truncated WAD file: {len(data)} bytes; expected a header of 12")
    count, start = struct.unpack_from("<ii", data, 4)
    if count < 0 or start < 12 or start + 16 * count > len(data):
        raise MidiError(
            f"truncated WAD file: its directory of {count} lumps at byte {start} is not in {len(data)} bytes"
        )
    for offset, size, raw in struct.iter_unpack("<ii8s", data[start : start + 16 * count]):
        if size >= 4 and data[offset : offset + 4] in MUSIC:
            yield raw.split(b"\0")[0].decode("ascii", "replace"), data[offset : offset + size]
