"""The player of a run: what `Run`, `Session` and `Batch` share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from accomp.core.clock import LatencyBudget
from accomp.core.compute.devices import threads
from accomp.core.errors import UserError
from accomp.core.model.conditions import classes_called
from accomp.core.music.labels import INSTRUMENT
from accomp.core.names import argument
from accomp.core.runs.player import Player, check_streams

if TYPE_CHECKING:
    from accomp.core.music.timelines import Source
    from accomp.core.registry import Registry

_ARGUMENTS = ("instrument", "seed", "temperature", "metronome", "chart")
"""What a misspelt label may mean besides the labels of a model."""


class RunPlayer:
    """A player of core with the folder it was loaded from; labels, temperature and timelines are given by name."""

    def __init__(self, folder: Path, player: Player, registry: Registry, threads: int):
        self.folder, self.core, self.registry = folder, player, registry
        self._threads = threads

    @property
    def sample_rate(self) -> int:
        """The codec's, in Hz."""
        return self.core.tokenizer.space.sample_rate

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds. Raises UserError for a model that cannot stream."""
        clock = check_streams(self.core)
        return LatencyBudget(clock, self.core.tokenizer.space, 0.0, 0.0, 0.0, 0.0).algorithmic

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Use the number of CPU threads that the run plays with."""
        with threads(self._threads):
            yield

    def classes(self, instrument: str | None, labels: Mapping[str, str]) -> dict[str, int]:
        """Label -> number of its class. Raises UserError for an unknown label or class."""
        given = {**({} if instrument is None else {INSTRUMENT: instrument}), **labels}
        return classes_called(given, self.core.model.conditions.labels, _ARGUMENTS)

    def controls(self, temperature: float | None) -> dict[str, float] | None:
        """Parameters of the sampler for one session, or None for its own. Raises UserError where it has none."""
        if temperature is None:
            return None
        has = tuple(getattr(self.core.sampler, "controls", ()))
        if has != ("temperature",):
            raise UserError(f"temperature={temperature!r}: the sampler of this run has no temperature to set")
        if not isinstance(temperature, int | float | np.number):
            raise UserError(f"temperature={temperature!r}; expected a number")
        if not 0 <= temperature < math.inf:
            raise UserError(f"temperature={temperature:g}; expected 0 or more")
        return {"temperature": float(temperature)}

    def timelines(self, metronome: str, chart: str) -> dict[str, Source]:
        """Timeline -> source of its values. Raises UserError for words that cannot be parsed or used."""
        from accomp.core.generation.timeline_options import TimelineOptions

        return TimelineOptions(metronome, chart, argument).sources(self.core, self.registry)
