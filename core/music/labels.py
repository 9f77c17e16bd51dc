"""Labels: what a corpus knows of a song or a stem in words, a text by name, as in `genre`: "rock"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accomp.core.music.instruments import CLASSES

INSTRUMENT = "instrument"
TIMELINES = ("metronome", "chart")
"""What a model may be told frame by frame: core/music/timelines.py."""
RESERVED = ("context", INSTRUMENT, *TIMELINES)
"""Names that no label of a corpus may have: the audio that is accompanied, `Stem.instrument`, and the timelines."""


def read_labels(given: object) -> tuple[dict[str, str], list[str]]:
    """The labels that a corpus's metadata has for a song or stem, and a line for each that is none."""
    if not isinstance(given, Mapping):
        return {}, [f"labels is {given!r}; expected a table of names and texts, such as genre: rock"]
    wrong = {name: _why_not(name, text) for name, text in given.items()}
    return {name: text for name, text in given.items() if not wrong[name]}, [why for why in wrong.values() if why]


def check_labels(given: object) -> None:
    """Raises ValueError for labels that are not text by name, or have a name that means something else."""
    problems = read_labels(given)[1]
    if problems:
        raise ValueError("; ".join(problems))


def all_labels(song: Mapping[str, str], stem: Mapping[str, str], instrument: int) -> dict[str, str]:
    """A song's labels, before them those of one of its stems, and that stem's instrument."""
    return {**song, **stem, INSTRUMENT: CLASSES[instrument]}


def _why_not(name: Any, text: Any) -> str:
    """What is wrong with a label; "" where it is one."""
    if not isinstance(name, str) or not name.strip() or "=" in name:
        return f"label {name!r}: {text!r}; expected a name, without '='"
    if name in RESERVED:
        return f"label {name!r}: {text!r}; that name means something else, choose another"
    if not isinstance(text, str) or not text.strip():
        return f'label {name!r} is {text!r}; expected text (YAML and JSON take it in quotes: "{text}")'
    return ""
