"""Timeline values of sessions in lockstep, frame by frame: each by its own timelines, at its own frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from attrs import define, field
from torch import Tensor

from accomp.core.model.model import Model
from accomp.core.music.timelines import Source
from accomp.core.streaming.followed_timeline import FollowedTimeline
from accomp.core.streaming.step import Step


@define(eq=False)
class TimelineFeed:
    """Sets the timelines of a Step's next rows. The row of a session's step s has the values of frame s; rows before
    step 0 have none.

    To a model with an ear it says which rows have input; the step supplies what no source gives.

    Attributes:
        timelines: for each session, name -> source; those that are missing are withheld.
    """

    model: Model
    step: Step
    timelines: list[dict[str, Source]]
    _at: list[int] = field(init=False)  # the step of the first row of each session's next group
    _samples_in: list[int] = field(init=False)  # samples of each session's input
    _hearing: list[list[bool]] = field(factory=list, init=False)  # of the step's next group

    def __attrs_post_init__(self) -> None:
        self._at, self._samples_in = [self._first] * len(self.timelines), [0] * len(self.timelines)
        for source in self._followed(range(len(self.timelines))):
            source.begin()

    @property
    def _first(self) -> int:
        return -self.model.layout.start - self.step.blanks

    def begin(self, rows: Sequence[bool], timelines: Sequence[dict[str, Source]] | None) -> None:
        """Start new sessions in the rows where `rows` is true, with these timelines, or with the same from the
        start.
        """
        for row, new in enumerate(rows):
            if new:
                self._at[row] = self._first
                self._samples_in[row] = 0
                if timelines is not None:
                    self.timelines[row] = timelines[row]
                for source in self._followed([row]):
                    source.begin()

    def listen(self, audio: Tensor, rows: Sequence[int] | None = None) -> None:
        """Feed the next input audio [B, n] of all sessions, or those of `rows`, to timelines that follow the input."""
        for number, row in enumerate(range(len(self.timelines)) if rows is None else rows):
            self._samples_in[row] += audio.shape[1]
            for source in self._followed([row]):
                source.listen(audio[number].float().cpu().numpy())

    def set_timeline(self, row: int, name: str, source: Source | None) -> None:
        """Set a session's timeline from its next group on; None withholds it."""
        if source is None:
            self.timelines[row].pop(name, None)
        else:
            if isinstance(source, FollowedTimeline):
                source.begin(self._samples_in[row])
            self.timelines[row][name] = source

    def prefill(self, rows: Sequence[bool] | None = None) -> None:
        """Set the values at the k rows of the next group, for all sessions or those of `rows`."""
        self._set(0, self.model.layout.clock.k, rows)
        if self.model.ear is not None:
            self._set_hearing(rows)

    def decode(self, number: int, rows: Sequence[bool] | None = None) -> None:
        """Set the values at the row without input that is `number` steps after the group."""
        self._set(self.model.layout.clock.k - 1 + number, 1, rows)

    def advance(self, rows: Sequence[bool] | None = None) -> None:
        """Advance by a group, for all sessions or those of `rows`."""
        if self.step.timelines:
            k = self.model.layout.clock.k
            self._at = [at + k if rows is None or rows[row] else at for row, at in enumerate(self._at)]

    def _followed(self, rows: Iterable[int]) -> Iterator[FollowedTimeline]:
        """Timelines that follow the input of sessions."""
        return (s for row in rows for s in self.timelines[row].values() if isinstance(s, FollowedTimeline))

    def _set_hearing(self, rows: Sequence[bool] | None) -> None:
        before = self.model.layout.clock.input_padding - self.model.layout.start  # steps whose row has no input yet
        hearing = [
            [at + number >= before and (rows is None or rows[row]) for number in range(self.model.layout.clock.k)]
            for row, at in enumerate(self._at)
        ]
        if hearing != self._hearing:  # as a rule all have input
            self.step.set_hearing(torch.tensor(hearing))
            self._hearing = hearing

    def _set(self, after: int, frames: int, rows: Sequence[bool] | None) -> None:
        given = {}
        for name, buffer in self.step.timelines.items():
            values = np.zeros((len(self._at), frames, buffer.shape[2]), np.float32)
            for row, at in enumerate(self._at):
                source, first = self.timelines[row].get(name), at + after
                early = min(frames, max(0, -first))
                if source is not None and early < frames and (rows is None or rows[row]):
                    values[row, early:] = source(first + early, frames - early)
            given[name] = torch.from_numpy(values).to(self.model.device)
        self.step.set_timelines(self.step.guidance.spread_timelines(given))
