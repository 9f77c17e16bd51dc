"""Class labels by name: what a corpus knows of a stem, and which class of a model's condition that is.

A label is a name and a text (`genre`: "rock"). A song has some, a stem may have its own, and the instrument is one that
every stem has. A model knows a label as the number of its class; which names it has, and in which order, its
`[conditions]` say. This page is the only place where the one becomes the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from accomp.core.errors import UserError
from accomp.core.instruments import CLASSES
from accomp.core.registry import nearest

if TYPE_CHECKING:
    from accomp.core.spec import LabelCondition
    from accomp.core.types import Track

INSTRUMENT = "instrument"
TIMELINES = ("metronome", "chart")
"""What a model may be told frame by frame: core/timelines.py."""
RESERVED = ("context", INSTRUMENT, *TIMELINES)
"""Names that no label of a corpus may have: the audio that is accompanied, `Stem.instrument`, and the timelines."""


def told_labels(given: object) -> tuple[dict[str, str], list[str]]:
    """The labels that a corpus's metadata has for a song or stem, and a line for each that is none."""
    if not isinstance(given, Mapping):
        return {}, [f"labels is {given!r}; expected a table of names and texts, such as genre: rock"]
    wrong = {name: _why_not(name, text) for name, text in given.items()}
    return {name: text for name, text in given.items() if not wrong[name]}, [why for why in wrong.values() if why]


def check_labels(given: object) -> None:
    """Raises ValueError for labels that are not text by name, or have a name that means something else."""
    problems = told_labels(given)[1]
    if problems:
        raise ValueError("; ".join(problems))


def labels_of(track: Track, stem: str) -> dict[str, str]:
    """All labels of a track's stem, as `all_labels` puts them together."""
    own = track.stems[stem]
    return all_labels(track.labels, own.labels, own.instrument)


def all_labels(song: Mapping[str, str], stem: Mapping[str, str], instrument: int) -> dict[str, str]:
    """A song's labels, before them those of one of its stems, and that stem's instrument."""
    return {**song, **stem, INSTRUMENT: CLASSES[instrument]}


def class_names(label: str, condition: LabelCondition) -> tuple[str, ...]:
    """The names of a condition's classes; the number of a class is its place.

    Where a spec only counts them, those of `instrument` are the first of core/instruments.py, others "0", "1", ...
    """
    if isinstance(condition.classes, tuple):
        return condition.classes
    return CLASSES[: condition.classes] if label == INSTRUMENT else tuple(map(str, range(condition.classes)))


def class_numbers(labels: Mapping[str, str], conditions: Mapping[str, LabelCondition]) -> dict[str, int]:
    """label -> text as classes, of those labels that the model takes; the others are left out.

    Raises UserError, with all of them, for texts that are no class of the model.
    """
    known = {name: class_names(name, conditions[name]) for name in labels if name in conditions}
    problems = [
        f"{name} is {labels[name]!r}, which is no class of the model{nearest(labels[name], names, what='it has')}"
        for name, names in known.items()
        if labels[name] not in names
    ]
    if problems:
        raise UserError(*problems)
    return {name: names.index(labels[name]) for name, names in known.items()}


def chosen(words: Iterable[str], conditions: Mapping[str, LabelCondition]) -> dict[str, int]:
    """What a user asks for, "genre=jazz", as label -> class. Case does not matter where it decides nothing.

    Raises UserError, with all mistakes, for a word of another form, a label that the model does not take or that is
    given twice, and a class that it does not have.
    """
    found: dict[str, int] = {}
    problems = []
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not (name and equals and text):
            problems.append(f"expected NAME=VALUE, as in genre=jazz @ --condition {word}")
        elif name not in conditions:
            if conditions:
                why = f"has no condition {name!r}{nearest(name, conditions, what='its conditions')}"
            else:
                why = f"has no condition {name!r}, nor any other; it plays by what it hears alone"
            problems.append(f"the model {why} @ --condition {word}")
        elif name in found:
            problems.append(f"{name!r} is given twice @ --condition {word}")
        else:
            names = class_names(name, conditions[name])
            fitting = [text] if text in names else [known for known in names if known.lower() == text.lower()]
            if len(fitting) == 1:
                found[name] = names.index(fitting[0])
            else:
                problems.append(
                    f"no {name} is called {text!r}{nearest(text, names, what='known')} @ --condition {word}"
                )
    if problems:
        raise UserError(*problems)
    return found


def _why_not(name: Any, text: Any) -> str:
    """What is wrong with a label; "" where it is one."""
    if not isinstance(name, str) or not name.strip() or "=" in name:
        return f"label {name!r}: {text!r}; expected a name, without '='"
    if name in RESERVED:
        return f"label {name!r}: {text!r}; that name means something else, choose another"
    if not isinstance(text, str) or not text.strip():
        return f'label {name!r} is {text!r}; expected text (YAML and JSON take it in quotes: "{text}")'
    return ""
