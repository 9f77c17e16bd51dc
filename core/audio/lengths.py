"""Selection of the stems of a song by their length; a stem of another length does not exclude the others."""

from __future__ import annotations

from collections.abc import Mapping

PADDING = 1.0
"""Largest difference (s) in length between stems of a song; a shorter one is padded with silence."""


def unequal(seconds: Mapping[str, float]) -> dict[str, str]:
    """Return the reason of exclusion for each stem whose length (s) differs from that of most of the song's stems.

    Most: the group within PADDING of one stem's length, from it downwards, that holds most stems; of equally large
    groups the longest, so of two stems the longer one is kept.
    """
    if not seconds:
        return {}
    longest = max(seconds.values(), key=lambda end: (sum(_together(end, other) for other in seconds.values()), end))
    return {
        name: f"lasts {length:.2f} s where most of the song's stems last {longest:.2f} s; at most {PADDING:g} s apart"
        for name, length in seconds.items()
        if not _together(longest, length)
    }


def _together(end: float, other: float) -> bool:
    return 0 <= end - other <= PADDING
