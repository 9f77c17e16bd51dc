"""Training time over all sessions of a run, and its limit, [train] minutes."""

from __future__ import annotations

import time

from lightning.fabric import Fabric

from accomp.core.training.processes import largest_of_processes


class TrainingTime:
    """A stopwatch that continues in a resumed run.

    Attributes:
        earlier: seconds of earlier sessions.
        share: elapsed share of the limit, by the slowest process's clock; 0 without a limit.
    """

    def __init__(self, minutes: float | None, fabric: Fabric):
        self._minutes, self._fabric = minutes, fabric
        self._began = time.monotonic()
        self.earlier, self.share = 0.0, 0.0

    def begin(self) -> None:
        """Begin the session now."""
        self._began = time.monotonic()

    def session(self) -> float:
        """Return the seconds of this session."""
        return time.monotonic() - self._began

    def seconds(self) -> float:
        """Return the seconds of all sessions."""
        return self.earlier + self.session()

    def update(self) -> None:
        """Update `share`; a collective operation where there is a limit."""
        if self._minutes is not None:
            self.share = largest_of_processes(self._fabric, self.seconds() / 60 / self._minutes)
