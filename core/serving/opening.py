"""Before the first tick: runs are loaded, made fast enough where that can be, and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path as Folder

from attrs import define, evolve, field

from accomp.core.compute.compilers import lacking
from accomp.core.compute.devices import describe
from accomp.core.console import say, warn
from accomp.core.errors import CombinationError, UserError
from accomp.core.generation.stream import player_of
from accomp.core.registry import Registry
from accomp.core.runs.player import Player
from accomp.core.serving.playing.capacity import LADDER, Capacity, measured_capacity
from accomp.core.serving.playing.fitting import Fit, Path, best, fit, measure
from accomp.core.serving.playing.runs import Followers, slots_of
from accomp.core.serving.playing.stage import Stage
from accomp.core.serving.playing.ticks import Ticks
from accomp.core.serving.server import Server
from accomp.core.streaming.audio_batch import AudioSessionBatch

TICKS = 150
"""Of a measurement."""
USUAL = Path(48_000)
"""A page on this machine, before it has measured itself."""
FAST_ON_CPU = ("compile=on", "weights=w8a8")
"""What makes a model several times as fast on a CPU, after a minute of compiling."""


@define(eq=False)
class Opening:
    """What is to be played, and how.

    Attributes:
        runs: name -> folder.
        slots: of each run; None: as many as this machine holds, by measurement.
        runtime: KEY=VALUE of [runtime]; where none is given a model that is too slow is compiled, if that can be.
        force: play though it is too slow.
    """

    runs: Mapping[str, Folder]
    registry: Registry
    slots: int | None = 1
    runtime: Sequence[str] = ()
    guidance: Mapping[str, float] | None = None
    force: bool = False
    stack: ExitStack = field(factory=ExitStack)

    def prepare(self, server: Server, tell: Callable[[str], None]) -> dict[str, Stage]:
        """The stages of a server, in the model's thread; what is done is told, and said on the terminal.

        Raises CombinationError where no run can be played live here, as UserError for what cannot be loaded.
        """
        began = time.monotonic()

        def doing(text: str) -> None:
            tell(text)
            say(text)

        players = {name: self._player(name, folder, server.clocked, doing) for name, folder in self.runs.items()}
        made = self._sized(server, players, doing)
        stages = {}
        for name, slots in made.items():
            player = players[name]
            server.measured[name] = measure(slots, TICKS)
            ticks = Ticks(slots.hop / slots.space.sample_rate, server.metrics.ticked)
            stages[name] = Stage(
                name, player, slots, self.registry, server.clocked, ticks, server.limits,
                lambda live, margin: server.metrics.margin.observe(margin),
            )  # fmt: skip
            server.metrics.model.labels(name, str(player.step), player.weights[:12]).set(1)
        self._judge(server.fits(USUAL), players, many=server.clocked)
        tell("who follows beats and chords is looked for")
        server.followers = Followers.of(self.registry)
        server.metrics.admission.set(1)
        say(f"ready after {time.monotonic() - began:.0f} s: {', '.join(stages)}")
        return stages

    def _player(self, name: str, folder: Folder, clocked: bool, doing: Callable[[str], None]) -> Player:
        doing(f"{name} is loaded")
        player = self.stack.enter_context(player_of(folder, self.registry, self.guidance, self.runtime))
        device = player.device
        if self.runtime or device.type != "cpu" or player.runtime.compile == "on":
            return player
        budget = measure(slots_of(player, 1), TICKS // 3, warm=10)
        at_best = evolve(budget, encode=0.0, first=0.0, chunk=0.0, decode=0.0, jitter=0.0)
        if fit(name, budget, USUAL, clocked=clocked).fits or not fit(name, at_best, USUAL, clocked=clocked).fits:
            return player  # fast enough, or no speed would help
        took = f"{name} takes {1000 * budget.load * budget.frame:.0f} ms for each {1000 * budget.frame:.0f} ms of music"
        if why := lacking(device):
            doing(f"{took}, and cannot be made faster here: {why}")
            return player
        doing(f"{took}: it is compiled, with weights in 8 bits, which takes a minute or two")
        return self.stack.enter_context(player_of(folder, self.registry, self.guidance, FAST_ON_CPU))

    def _sized(
        self, server: Server, players: Mapping[str, Player], doing: Callable[[str], None]
    ) -> dict[str, AudioSessionBatch]:
        """Slots for each run: as many as are asked for, or as fit."""
        if not server.clocked:
            return {name: slots_of(player, 1) for name, player in players.items()}
        doing("capacity is measured")
        ladder = LADDER if self.slots is None else (self.slots,)
        capacity = measured_capacity(players, ladder, doing)
        server.metrics.capacity.set(capacity.fits)
        self._check_capacity(capacity)
        assert capacity.slots is not None
        return dict(capacity.slots)

    def _check_capacity(self, capacity: Capacity) -> None:
        say(capacity.describe())
        if capacity.fits:
            return
        text = f"{capacity.describe()}; --slots takes fewer, a smaller model or --runtime compile=on is faster"
        if not self.force:
            raise UserError(f"{text}; --force serves all the same, and what comes too late is silent")

    def _judge(self, fits: Mapping[str, Fit], players: Mapping[str, Player], *, many: bool) -> None:
        """Say how each run fits a page on this machine. Raises CombinationError where none does and many would play;
        one musician is told by the page."""
        for name, one in fits.items():
            say(f"{name} on {describe(players[name].device)}, with a page on this machine: {one.budget.verdict()}")
        if any(one.fits for one in fits.values()):
            return
        text = f"{best(fits).name} {best(fits).budget.verdict()}"
        if many and not self.force:
            raise CombinationError(
                f"{text}; a model is trained for its clock, so choose another; --runtime compile=on and --runtime "
                f"weights=int8 (w8a8 on a CPU) make its steps shorter; --force plays all the same, and what comes too "
                f"late is silent"
            )
        warn(f"{text}; the page plays all the same where you insist, and what comes too late is silent")
