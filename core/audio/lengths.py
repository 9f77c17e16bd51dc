"""Which stems of a song go together by their length: one that ends early, or goes on alone, costs no other stem."""

from __future__ import annotations

from collections.abc import Mapping

PADDING = 1.0
"""Stems of a song may differ by so many seconds; a shorter one gets silence at its end."""


def unequal(seconds: Mapping[str, float]) -> dict[str, str]:
    """Why each stem is left out whose length (s) is not that of most of the song's stems, within PADDING.

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
