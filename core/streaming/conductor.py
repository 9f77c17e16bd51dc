"""What sessions in step are told, frame by frame: each by its own timelines, at the frame that each is at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from attrs import define, field
from torch import Tensor

from accomp.core.model.model import Model
from accomp.core.music.timelines import Source
from accomp.core.streaming.following import Followed
from accomp.core.streaming.step import Step


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
    _heard: list[int] = field(init=False)  # samples of each session's input

    def __attrs_post_init__(self) -> None:
        self._at, self._heard = [self._first] * len(self.timelines), [0] * len(self.timelines)
        for source in self._followed(range(len(self.timelines))):
            source.begin()

    @property
    def _first(self) -> int:
        return -self.model.layout.start - self.step.blanks

    def begin(self, rows: Sequence[bool], timelines: Sequence[dict[str, Source]] | None) -> None:
        """New sessions in the rows where `rows` is true, told by these timelines, or by the same from the start."""
        for row, anew in enumerate(rows):
            if anew:
                self._at[row] = self._first
                self._heard[row] = 0
                if timelines is not None:
                    self.timelines[row] = timelines[row]
                for source in self._followed([row]):
                    source.begin()

    def listen(self, audio: Tensor, rows: Sequence[int] | None = None) -> None:
        """What the sessions, or those of `rows`, hear next, audio [B, n]: for timelines that are followed in it."""
        for number, row in enumerate(range(len(self.timelines)) if rows is None else rows):
            self._heard[row] += audio.shape[1]
            for source in self._followed([row]):
                source.listen(audio[number].float().cpu().numpy())

    def tell(self, row: int, name: str, source: Source | None) -> None:
        """Another timeline for a session from its next group on; None withholds it."""
        if source is None:
            self.timelines[row].pop(name, None)
        else:
            if isinstance(source, Followed):
                source.begin(self._heard[row])
            self.timelines[row][name] = source

    def group(self, rows: Sequence[bool] | None = None) -> None:
        """Tell all sessions, or those of `rows`, of the k rows of their next group."""
        self._tell(0, self.model.layout.clock.k, rows)

    def alone(self, number: int, rows: Sequence[bool] | None = None) -> None:
        """Likewise of the row without input that is `number` steps after the group."""
        self._tell(self.model.layout.clock.k - 1 + number, 1, rows)

    def done(self, rows: Sequence[bool] | None = None) -> None:
        """The group is absorbed, by all sessions or those of `rows`."""
        if self.step.told:
            k = self.model.layout.clock.k
            self._at = [at + k if rows is None or rows[row] else at for row, at in enumerate(self._at)]

    def _followed(self, rows: Iterable[int]) -> Iterator[Followed]:
        """What sessions are told that has to hear their input."""
        return (s for row in rows for s in self.timelines[row].values() if isinstance(s, Followed))

    def _tell(self, after: int, frames: int, rows: Sequence[bool] | None) -> None:
        for name, told in self.step.told.items():
            values = np.zeros((len(self._at), frames, told.shape[2]), np.float32)
            for row, at in enumerate(self._at):
                source, first = self.timelines[row].get(name), at + after
                early = min(frames, max(0, -first))
                if source is not None and early < frames and (rows is None or rows[row]):
                    values[row, early:] = source(first + early, frames - early)
            self.step.tell({name: torch.from_numpy(values)})
