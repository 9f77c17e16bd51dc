"""Labels: metadata of a song or a stem as text by name, such as `genre`: "rock"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accomp.core.music.instruments import CLASSES

INSTRUMENT = "instrument"
TIMELINES = ("metronome", "chart")
"""Names of timelines: core/music/timelines.py."""
RESERVED = ("context", INSTRUMENT, *TIMELINES)
"""Names that labels of a corpus must not have: the audio context, `Stem.instrument`, and the timelines."""


def read_labels(given: object) -> tuple[dict[str, str], list[str]]:
    """Read the labels of a song's or stem's metadata; return them with a line for each invalid one."""
    if not isinstance(given, Mapping):
        return {}, [f"labels is {given!r}; expected a table of names and texts, such as genre: rock"]
    wrong = {name: _why_not(name, text) for name, text in given.items()}
    return {name: text for name, text in given.items() if not wrong[name]}, [why for why in wrong.values() if why]


def check_labels(given: object) -> None:
    """Raise ValueError for labels that are not text by name, or have a reserved name."""
    problems = read_labels(given)[1]
    if problems:
        raise ValueError("; ".join(problems))


def all_labels(song: Mapping[str, str], stem: Mapping[str, str], instrument: int) -> dict[str, str]:
    """Merge a song's labels with those of one of its stems, which take precedence, and that stem's instrument."""
    return {**song, **stem, INSTRUMENT: CLASSES[instrument]}


def _why_not(name: Any, text: Any) -> str:
    """Return the reason why a label is invalid; "" where it is valid."""
    if not isinstance(name, str) or not name.strip() or "=" in name:
        return f"label {name!r}: {text!r}; expected a name, without '='"
    if name in RESERVED:
        return f"label {name!r}: {text!r}; that name means something else, choose another"
    if not isinstance(text, str) or not text.strip():
        return f'label {name!r} is {text!r}; expected text (YAML and JSON take it in quotes: "{text}")'
    return ""
