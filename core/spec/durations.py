"""Durations in a spec: a number of codec frames, or seconds ("-1.0s", "40ms") that equal a whole number of frames."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated

from accomp.core.types import TokenSpace

Frames = Annotated[int, "frames"]
"""Annotation of a field, of a spec or of a plugin's Config, that counts codec frames and may be written in seconds."""

_DURATION = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(s|ms)")


def seconds(text: str) -> Fraction:
    """Parse "40ms" to 1/25 (s), exactly. Raises ValueError for anything but a number and "s" or "ms"."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"expected frames as an int, or a duration such as '0.5s' or '40ms', got {text!r}")
    number, unit = match.groups()
    return Fraction(number) / (1000 if unit == "ms" else 1)


def to_frames(text: str, space: TokenSpace) -> int:
    """Convert a duration to frames of `space`. Raises ValueError, with the nearest exact ones, for a fraction of
    a frame.
    """
    frames = seconds(text) * space.sample_rate / space.hop
    if frames.denominator == 1:
        return int(frames)
    below = frames.numerator // frames.denominator
    options = " or ".join(
        f"{_in_seconds(n, space)} ({n} frame{'' if abs(n) == 1 else 's'})" for n in (below, below + 1)
    )
    raise ValueError(f"{text!r} is {float(frames):g} frames of {space.hop / space.sample_rate:g} s; nearest: {options}")


def _in_seconds(frames: int, space: TokenSpace) -> str:
    """Return the shortest decimal that equals a number of frames exactly, else the number of frames itself."""
    duration = Fraction(frames * space.hop, space.sample_rate)
    text = f"{float(duration):.9g}"
    return f"'{text}s'" if "e" not in text and Fraction(text) == duration else str(frames)
