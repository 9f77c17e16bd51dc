"""Conditions of a model: the section [conditions], and class labels by name.

A model takes a label as the number of its class; its `[conditions]` give the names and their order. Conversion between
the two happens in this module alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from attrs import field, frozen
from attrs import validators as v

from accomp.core.errors import UserError
from accomp.core.music.instruments import CLASSES, from_name
from accomp.core.music.labels import INSTRUMENT, all_labels
from accomp.core.names import nearest, nearest_class
from accomp.core.types import Track

_share = v.and_(v.ge(0.0), v.le(1.0))


@frozen
class ContextCondition:
    """The audio that is accompanied. `drop`: share of training clips in which it is withheld from the model."""

    drop: float = field(default=0.0, validator=_share)


def _some_classes(_: Any, attribute: attrs.Attribute, classes: int | tuple[str, ...]) -> None:
    if isinstance(classes, int):
        if classes < 1:
            raise ValueError(f"{attribute.name} is {classes}; expected at least 1, or a list of their names")
    elif not classes or len(set(classes)) < len(classes) or not all(name.strip() for name in classes):
        raise ValueError(f"{attribute.name} is {list(classes)}; expected names, at least one, none of them twice")


@frozen
class LabelCondition:
    """A class label.

    Attributes:
        classes: the names of its classes, in the order of their numbers; or their count, which suffices for
            `instrument` (its names stand in core/music/instruments.py).
        drop: share of training clips in which it is withheld, in addition to those without this label.
    """

    classes: int | tuple[str, ...] = field(validator=_some_classes)
    drop: float = field(default=0.0, validator=_share)

    @property
    def count(self) -> int:
        """Number of classes."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)


@frozen
class TimelineCondition:
    """A timeline (core/music/timelines.py).

    Attributes:
        drop: share of training clips in which it is withheld, in addition to those without this timeline.
        detail: share of the remaining clips in which its detail is withheld: the bars of a metronome, so that a model
            also plays to beats alone, which is all that beat tracking of audio provides.
        heard: share of the clips without it in which the model's ear (core/model/ear.py) estimates it from the context.
            Above 0 the model has an ear, which supplies the timeline whenever it is not given in playing.
    """

    drop: float = field(default=0.0, validator=_share)
    detail: float = field(default=0.0, validator=_share)
    heard: float = field(default=0.0, validator=_share)


@frozen
class Conditions:
    """The conditions of a model.

    [conditions]
    context = { drop = 0.2 }
    instrument = { classes = 18, drop = 0.1 }
    genre = { classes = ["rock", "jazz"], drop = 0.1 }      # any label of the corpus
    metronome = { drop = 0.15, heard = 0.8 }                # beat and bar of the predicted frame; given, or heard
    chart = { drop = 0.3 }                                  # its chord
    """

    context: ContextCondition = ContextCondition()
    labels: dict[str, LabelCondition] = field(factory=dict)
    timelines: dict[str, TimelineCondition] = field(factory=dict)

    def shares(self) -> dict[str, float]:
        """Condition -> share of training clips in which it is withheld."""
        labels = {name: label.drop for name, label in self.labels.items()}
        timelines = {name: timeline.drop for name, timeline in self.timelines.items()}
        return {"context": self.context.drop, **labels, **timelines}

    @property
    def heard(self) -> tuple[str, ...]:
        """Timelines that the model's ear supplies where they are not given."""
        return tuple(name for name, timeline in self.timelines.items() if timeline.heard)

    def without_dropout(self) -> Conditions:
        """Return the same conditions with nothing withheld; what is not known is heard."""
        labels = {name: attrs.evolve(label, drop=0.0) for name, label in self.labels.items()}
        timelines = {name: TimelineCondition(heard=float(name in self.heard)) for name in self.timelines}
        return Conditions(ContextCondition(), labels, timelines)


def labels_of(track: Track, stem: str) -> dict[str, str]:
    """All labels of a track's stem, as combined by `all_labels`."""
    own = track.stems[stem]
    return all_labels(track.labels, own.labels, own.instrument)


def class_names(label: str, condition: LabelCondition) -> tuple[str, ...]:
    """Names of a condition's classes; the number of a class is its index.

    Where a spec gives only a count: for `instrument` the first of core/music/instruments.py, else "0", "1" ...
    """
    if isinstance(condition.classes, tuple):
        return condition.classes
    return CLASSES[: condition.classes] if label == INSTRUMENT else tuple(map(str, range(condition.classes)))


def class_numbers(labels: Mapping[str, str], conditions: Mapping[str, LabelCondition]) -> dict[str, int]:
    """Convert label -> text to label -> class number, for the labels that the model takes; others are left out.

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


def parse_conditions(words: Iterable[str], conditions: Mapping[str, LabelCondition]) -> dict[str, int]:
    """Parse conditions that a user gives, as "genre=jazz", to label -> class. Case is ignored where it is unambiguous.

    Raises UserError, with all mistakes, for a word of another form, a label that the model does not take or that is
    given twice, and a class that it does not have.
    """
    found: dict[str, int] = {}
    problems = []
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        try:
            if not (name and equals and text):
                raise UserError("expected NAME=VALUE, as in genre=jazz")
            number = class_called(name, text, conditions)
            if name in found:
                raise UserError(f"{name!r} is given twice")
            found[name] = number
        except UserError as error:
            problems.append(f"{error} @ --condition {word}")
    if problems:
        raise UserError(*problems)
    return found


def classes_called(
    given: Mapping[str, str], conditions: Mapping[str, LabelCondition], others: Iterable[str] = ()
) -> dict[str, int]:
    """Label -> the name of a class, as label -> class.

    others: further names that may be meant where a label is not known. Raises UserError with all mistakes, as `chosen`.
    """
    found: dict[str, int] = {}
    problems = []
    for name, text in given.items():
        try:
            found[name] = class_called(name, text, conditions, others)
        except UserError as error:
            problems.append(f"{error} @ {name}={text!r}")
    if problems:
        raise UserError(*problems)
    return found


def class_called(label: str, text: str, conditions: Mapping[str, LabelCondition], others: Iterable[str] = ()) -> int:
    """The class of a label by its name; of the instrument by that of a member, too ("drums").

    Raises UserError for a label or a class that the model does not have.
    """
    if label not in conditions:
        if not conditions:
            raise UserError(f"the model has no condition {label!r}, nor any other; it plays from the audio alone")
        what = nearest(
            label, {*conditions, *others}, what="its conditions" + (" and other arguments" if others else "")
        )
        raise UserError(f"the model has no condition {label!r}{what}")
    names = class_names(label, conditions[label])
    if not isinstance(text, str):
        raise UserError(f"expected the name of a class, got {text!r}; {label} has {', '.join(names)}")
    fitting = [text] if text in names else [known for known in names if known.lower() == text.lower()]
    if label == INSTRUMENT and not fitting and (meant := from_name(text)) is not None:
        fitting = [known for known in names if known == CLASSES[meant]]
    if len(fitting) != 1:
        known = nearest_class(text, names) if label == INSTRUMENT else nearest(text, names)
        raise UserError(f"no {label} is called {text!r}{known}")
    return names.index(fitting[0])
