"""Frames of sound on a WebSocket: a header of 16 bytes that says what, which and where, then samples.

    byte 0      kind: HEARD (from a page: what its microphone hears; to a page: what is to be played), or PROBED
    byte 1      flags: DISCONTINUITY before this frame, LAST of the session
    byte 2, 3   reserved, 0
    byte 4..7   number of the frame, uint32, wraps around
    byte 8..15  place of its first sample, uint64
    byte 16..   samples, mono: float32, or int16 of full scale 32767

All of it little endian. A place is a sample's number in the page's audio context since its worklet began.
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
"""Of a message with sound."""
_FULL_SCALE = 32767.0


class BrokenFrame(ValueError):
    """A binary message that is no frame, in words for its sender."""


@frozen(eq=False)
class Frame:
    """Sound in its place. Attributes: kind, flags, number, place: as in the header. samples: [n] float32."""

    kind: int
    place: int
    samples: np.ndarray = field(repr=False)
    number: int = 0
    flags: int = 0


def encoded(frame: Frame, format: Format) -> bytes:
    """The message of a frame. In int16 what is beyond [-1, 1] is clipped."""
    head = HEADER.pack(frame.kind, frame.flags, 0, frame.number & 0xFFFFFFFF, frame.place)
    if format == "f32":
        return head + frame.samples.astype("<f4").tobytes()
    return head + np.round(np.clip(frame.samples, -1, 1) * _FULL_SCALE).astype("<i2").tobytes()


def decoded(message: bytes, format: Format, samples: int | None = None) -> Frame:
    """The frame of a message. Raises BrokenFrame where its size, kind or reserved bytes are not as agreed.

    samples: how many it must have; any number where None.
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
