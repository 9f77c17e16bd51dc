"""Label classes of clips: names become numbers once, when a loader opens a store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from accomp.core.errors import DataError
from accomp.core.model.conditions import LabelCondition, class_names
from accomp.core.music.instruments import CLASSES
from accomp.core.music.labels import INSTRUMENT

Songs = Mapping[str, Sequence[Mapping[str, str]]]
"""Song -> for each of its pairs, the labels of the target stem."""

_SHOWN = 5


class ClassLabels:
    """Classes of all pairs of some songs, looked up for many clips at once.

    Each label's classes are one array [pairs], -1 where a stem does not have it, as if it were withheld in every clip.
    """

    def __init__(self, songs: Songs, conditions: Mapping[str, LabelCondition]):
        """Take the labels of `conditions`, which `check` has validated."""
        self._names = {label: class_names(label, condition) for label, condition in conditions.items()}
        self._first = np.cumsum([0, *map(len, songs.values())])
        self._classes = {label: np.empty(self._first[-1], dtype=np.int64) for label in conditions}
        for label, names in self._names.items():
            number = {name: number for number, name in enumerate(names)}
            known = (labels.get(label) for song in songs.values() for labels in song)
            self._classes[label][:] = [-1 if name is None else number[name] for name in known]

    def of(self, clips: np.ndarray) -> dict[str, np.ndarray]:
        """Look up label -> classes [n] int64 of clips [n, 3]: number of the song, of its pair, and a start."""
        pairs = self._first[clips[:, 0]] + clips[:, 1]
        return {label: classes[pairs] for label, classes in self._classes.items()}

    def counts(self, clips: np.ndarray) -> dict[str, Counter[str]]:
        """Count label -> class -> clips, for all classes, the most frequent first."""
        found = {}
        for label, classes in self.of(clips).items():
            names = self._names[label]
            numbers = np.bincount(classes[classes >= 0], minlength=len(names)).tolist()
            found[label] = Counter(dict(Counter(dict(zip(names, numbers, strict=True))).most_common()))
        return found

    def digest(self) -> bytes:
        """Hash the classes of all labels but the instrument, which follows from the choice of pairs."""
        return b"".join(self._classes[label].astype("<i8").tobytes() for label in self._classes if label != INSTRUMENT)


def describe(counts: Mapping[str, Counter[str]], clips: int) -> list[str]:
    """Describe `ClassLabels.counts` of a number of clips, one line a label."""
    lines = []
    for label, classes in counts.items():
        counted = ", ".join(f"{name} {count}" for name, count in classes.items() if count)
        unheard = ", ".join(name for name, count in classes.items() if not count)
        lines.append(
            f"{label}: {classes.total()} of {clips} clips labelled: {counted or 'none'}"
            + (f"; in no clip: {unheard}" if unheard and label != INSTRUMENT else "")
        )
    return lines


def check(
    songs: Songs,
    conditions: Mapping[str, LabelCondition],
    everywhere: Callable[[], Iterable[Mapping[str, str]]],
    where: str,
) -> None:
    """Raise DataError with every label that no song has, and every value that is none of its label's classes.

    `everywhere` returns the labels of the whole store, for the suggestions in the message; `where` names them.
    """
    problems = []
    for label, condition in conditions.items():
        names = class_names(label, condition)
        wrong: dict[str, list[str]] = {}
        found = False
        for song, stems in songs.items():
            for value in {labels[label]: None for labels in stems if label in labels}:
                found = True
                if value not in names:
                    wrong.setdefault(value, []).append(song)
        if wrong:
            given = f"[conditions] {label} has {', '.join(names)}"
            problems += [
                f"{label} is {value!r} in {_some(ids)}; {given} @ {where}" for value, ids in sorted(wrong.items())
            ]
            problems.append(f"right for all of it: {label} = {{ classes = {_right(label, condition, everywhere())} }}")
        elif not found:
            known = {name for labels in everywhere() for name in labels}
            if label not in known:
                problems.append(
                    f"no song has the label {label!r} of [conditions]; there is {', '.join(sorted(known))}. Where the "
                    f"corpus gives it by now, `accomp ingest SPEC` adds it without encoding anything again @ {where}"
                )
    if problems:
        raise DataError(*problems)


def _right(label: str, condition: LabelCondition, everywhere: Iterable[Mapping[str, str]]) -> str:
    """Return the classes that a spec should list: the given ones that exist, in their order, then the rest."""
    if label == INSTRUMENT and isinstance(condition.classes, int):
        return str(len(CLASSES))
    present = {labels[label] for labels in everywhere if label in labels}
    own = [name for name in class_names(label, condition) if name in present]
    return json.dumps([*own, *sorted(present.difference(own))], ensure_ascii=False)


def _some(songs: Sequence[str]) -> str:
    more = f" and {len(songs) - _SHOWN} more" if len(songs) > _SHOWN else ""
    return f"{'songs' if len(songs) > 1 else 'song'} {', '.join(songs[:_SHOWN])}{more}"
