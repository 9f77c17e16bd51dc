"""Binary WebSocket messages of audio: a header of 16 bytes, then samples.

    byte 0      kind: HEARD (from a page: its microphone; to a page: output), or PROBED (calibration)
    byte 1      flags: DISCONTINUITY before this frame, LAST of the session
    byte 2, 3   reserved, 0
    byte 4..7   number of the frame, uint32, wraps around
    byte 8..15  place of its first sample, uint64
    byte 16..   samples, mono: float32, or int16 of full scale 32767

All little endian. A place is a sample's number in the page's audio context since the start of its worklet.
"""

from __future__ import annotations

import struct
from typing import Literal

import numpy as np
from attrs import field, frozen

Format = Literal["f32", "i16"]

HEARD, PROBED = 1, 2
DISCONTINUITY, LAST = 1, 2
HEADER = struct.Struct("<BBHIQ")
SAMPLE_BYTES = {"f32": 4, "i16": 2}
MOST_BYTES = 64 * 1024
"""Size limit of an audio message."""
_FULL_SCALE = 32767.0


class BrokenFrame(ValueError):
    """A binary message that is no valid frame; the message is for the sender."""


@frozen(eq=False)
class Frame:
    """Audio at a place. Attributes: kind, flags, number, place: as in the header. samples: [n] float32."""

    kind: int
    place: int
    samples: np.ndarray = field(repr=False)
    number: int = 0
    flags: int = 0


def encode(frame: Frame, format: Format) -> bytes:
    """Encode a frame. In int16 values beyond [-1, 1] are clipped."""
    head = HEADER.pack(frame.kind, frame.flags, 0, frame.number & 0xFFFFFFFF, frame.place)
    if format == "f32":
        return head + frame.samples.astype("<f4").tobytes()
    return head + np.round(np.clip(frame.samples, -1, 1) * _FULL_SCALE).astype("<i2").tobytes()


def decode(message: bytes, format: Format, samples: int | None = None) -> Frame:
    """Decode a frame. Raises BrokenFrame for a wrong size, kind or reserved bytes.

    samples: the number that it must have; any if None.
    """
    if len(message) < HEADER.size:
        raise BrokenFrame(f"a binary message of {len(message)} bytes; a frame has a header of {HEADER.size}")
    if len(message) > MOST_BYTES:
        raise BrokenFrame(f"a frame of {len(message)} bytes; {MOST_BYTES} at most")
    kind, flags, reserved, number, place = HEADER.unpack_from(message)
    if kind not in (HEARD, PROBED) or reserved:
        raise BrokenFrame(f"a frame of kind {kind} with reserved bytes {reserved}; expected 1 or 2, and 0")
    size = SAMPLE_BYTES[format]
    count, rest = divmod(len(message) - HEADER.size, size)
    if rest or (samples is not None and count != samples):
        expected = "whole samples" if samples is None else f"{samples} samples, as the hello says"
        raise BrokenFrame(f"a frame of {len(message) - HEADER.size} bytes of {format} sound; expected {expected}")
    if place >= 1 << 63:
        raise BrokenFrame(f"a frame at place {place}; expected less than 2^63")
    if format == "f32":
        sound = np.frombuffer(message, "<f4", offset=HEADER.size)
    else:
        sound = np.frombuffer(message, "<i2", offset=HEADER.size).astype(np.float32) / np.float32(_FULL_SCALE)
    return Frame(kind, place, sound, number, flags)
