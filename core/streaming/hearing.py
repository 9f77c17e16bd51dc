"""The ear of a model in sessions in lockstep; its state is read and written in place, so that it compiles in a step."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from accomp.core.model.ear import Ear, EarState
from accomp.core.music.timelines import KINDS


@frozen(eq=False)
class Hearing:
    """What B sessions hear in the groups of k rows that a step absorbs.

    Attributes:
        ear: the model's.
        state: of the B sessions.
        rows: [B, k] bool, the rows of the next group that have input.
        last: name -> [B, 1, N], what was heard at the last row with input.
        since: [1] int64, rows without input since then.
    """

    ear: Ear
    state: EarState
    rows: Tensor
    last: dict[str, Tensor]
    since: Tensor

    @classmethod
    def of(cls, ear: Ear, batch: int, k: int) -> Hearing:
        """The hearing of B sessions that have heard nothing."""
        state = ear.begin(batch)
        last = {name: state.frames.new_zeros(batch, 1, KINDS[name].width) for name in ear.listeners}
        return cls(ear, state, state.begun.new_zeros(batch, k), last, state.begun.new_zeros(1, dtype=torch.int64))

    def first(self, batch: int) -> Hearing:
        """The first sessions, in the memory of these."""
        last = {name: values[:batch] for name, values in self.last.items()}
        return Hearing(self.ear, self.state.first(batch), self.rows[:batch], last, self.since)

    def hear(self, x: Tensor) -> dict[str, Tensor]:
        """Hear the input x [B, k, E] of a group -> name -> [B, k, N]; zeros in rows without."""
        steps = [self.ear.step(frame, self.state, self.rows[:, n]) for n, frame in enumerate(x.unbind(1))]
        heard = {name: torch.stack([step[name] for step in steps], dim=1) for name in self.last}
        for name, values in self.last.items():
            values.copy_(heard[name][:, -1:])
        self.since.zero_()
        return heard

    def later(self) -> dict[str, Tensor]:
        """What is heard at the next row without input -> name -> [B, 1, N]."""
        self.since.add_(1)
        return self.ear.ahead(self.last, self.since)
