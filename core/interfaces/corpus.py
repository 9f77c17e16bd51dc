"""Interface of corpora."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from accomp.core.types import Track


@runtime_checkable
class Corpus(Protocol):
    """A collection of songs on disk, each of several stems.

    A corpus that infers metadata also has `notes`, lines that state its assumptions, for `accomp ingest` and
    `accomp corpus inspect`.

    Attributes:
        splits: names in order, for instance ("train", "validation", "test").
        problems: one line for each song, stem or label that `tracks` has left out so far, with reason and place; no
            line twice.
    """

    splits: tuple[str, ...]
    problems: list[str]

    def tracks(self, split: str) -> Iterator[Track]:
        """Iterate over the songs of a split, in a fixed order.

        Args:
            split: one of `splits`.

        Returns:
            The songs.

        Raises:
            DataError: a missing folder, an unknown or an empty split.
        """
        ...
