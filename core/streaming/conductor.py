"""What sessions in step are told, frame by frame: each by its own timelines, at the frame that each is at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from attrs import define, field

from accomp.core.model import Model
from accomp.core.streaming.step import Step
from accomp.core.timelines import Source


@define(eq=False)
class Conductor:
    """Tells a Step of its next rows. A session's row for step s is told what its timelines say of frame s; rows before
    step 0 are told nothing.

    Attributes:
        timelines: for each session, name -> what it is told; those that are not there are withheld.
    """

    model: Model
    step: Step
    timelines: list[dict[str, Source]]
    _at: list[int] = field(init=False)  # the step of the first row of each session's next group

    def __attrs_post_init__(self) -> None:
        self._at = [self._first] * len(self.timelines)

    @property
    def _first(self) -> int:
        return -self.model.layout.start - self.step.blanks

    def begin(self, rows: Sequence[bool], timelines: Sequence[dict[str, Source]] | None) -> None:
        """New sessions in the rows where `rows` is true, told by these timelines, or by the same from the start."""
        for row, anew in enumerate(rows):
            if anew:
                self._at[row] = self._first
                if timelines is not None:
                    self.timelines[row] = timelines[row]

    def tell(self, row: int, name: str, source: Source | None) -> None:
        """Another timeline for a session from its next group on; None withholds it."""
        if source is None:
            self.timelines[row].pop(name, None)
        else:
            self.timelines[row][name] = source

    def group(self) -> None:
        """Tell of the k rows of each session's next group."""
        self._tell(0, self.model.layout.clock.k)

    def alone(self, number: int) -> None:
        """Tell of the row without input that is `number` steps after the group."""
        self._tell(self.model.layout.clock.k - 1 + number, 1)

    def done(self, rows: Sequence[bool] | None = None) -> None:
        """The group is absorbed, by all sessions or those of `rows`."""
        if self.step.told:
            k = self.model.layout.clock.k
            self._at = [at + k if rows is None or rows[row] else at for row, at in enumerate(self._at)]

    def _tell(self, after: int, frames: int) -> None:
        for name, told in self.step.told.items():
            values = np.zeros((len(self._at), frames, told.shape[2]), np.float32)
            for row, at in enumerate(self._at):
                source, first = self.timelines[row].get(name), at + after
                early = min(frames, max(0, -first))
                if source is not None and early < frames:
                    values[row, early:] = source(first + early, frames - early)
            self.step.tell({name: torch.from_numpy(values)})
