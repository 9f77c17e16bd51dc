"""Startup of a server: runs are loaded, compiled where needed and possible, and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path as Folder

from attrs import define, evolve, field

from accomp.core.clock import LatencyBudget
from accomp.core.compute.compilers import lacking
from accomp.core.compute.devices import describe
from accomp.core.console import say, warn
from accomp.core.errors import CombinationError, UserError, first_line
from accomp.core.generation.stream import player_of
from accomp.core.registry import Registry
from accomp.core.runs.player import Player
from accomp.core.serving.playing.capacity import LADDER, Capacity, measure_capacity
from accomp.core.serving.playing.fitting import Fit, Path, best, fit, measure
from accomp.core.serving.playing.runs import Followers, slots_of
from accomp.core.serving.playing.served_run import ServedRun
from accomp.core.serving.playing.ticks import Ticks
from accomp.core.serving.saved_measures import Measures, key_of, load, parts_of, save
from accomp.core.serving.server import Server
from accomp.core.streaming.audio_batch import AudioSessionBatch

TICKS = 150
"""Number of ticks of a measurement."""
LOCAL_PATH = Path(48_000, block=0.01)
"""Path of a page on this machine, before its own calibration; many sound devices have blocks of 10 ms."""
COMPILED = ("compile=on",)
"""Runtime settings that make a model twice to three times as fast on a CPU, after half a minute of compiling; it plays
the same."""
FASTEST = (*COMPILED, "weights=w8a8")
"""Those that make it faster still where memory is slow; quantized, it plays nearly the same."""
EASY = 0.25
"""Share of the time that a model may be busy beside a browser. With two cores, 12 s at a time: at 0.5 the page had 6 to
139 gaps, some of them for seconds; at 0.2 none."""


@define(eq=False)
class Startup:
    """Runs to be served, and their settings.

    Attributes:
        runs: name -> folder.
        slots: of each run; None: the measured capacity of this machine.
        runtime: KEY=VALUE of [runtime]; without any, a model that is too slow is compiled where possible.
        force: serve though it is too slow.
        again: measure though this has been measured before on this machine.
    """

    runs: Mapping[str, Folder]
    registry: Registry
    slots: int | None = 1
    runtime: Sequence[str] = ()
    guidance: Mapping[str, float] | None = None
    force: bool = False
    again: bool = False
    stack: ExitStack = field(factory=ExitStack)
    _before: Measures | None = field(default=None, init=False)
    _faster: dict[str, Sequence[str]] = field(factory=dict, init=False)
    _slower: list[str] = field(factory=list, init=False)  # runs that should be faster, and could not be made so
    _slots: dict[str, AudioSessionBatch] = field(factory=dict, init=False)
    _capacity: Capacity | None = field(default=None, init=False)

    def prepare(self, server: Server, tell: Callable[[str], None]) -> dict[str, ServedRun]:
        """Make the runs of a server, in the model's thread; progress is reported to clients and on the terminal.

        Raises CombinationError if no run can be played live here, UserError for runs that cannot be loaded.
        """
        began = time.monotonic()

        def report(text: str) -> None:
            tell(text)
            say(text)

        key = self._key(server)
        self._before = None if self.again else load(key)
        if self._before is not None:
            report(f"measured on this machine on {self._before.date}; --measure does it again")
        players = {name: self._player(name, folder, server.clocked, report) for name, folder in self.runs.items()}
        batches = self._make_slots(server, players, report)
        served: dict[str, ServedRun] = {}
        for name, slots in batches.items():
            player = players[name]
            server.measured[name] = self._budget(name, slots)
            ticks = Ticks(slots.hop / slots.space.sample_rate, server.metrics.ticked)
            served[name] = ServedRun(
                name, player, slots, self.registry, server.clocked, ticks, server.limits,
                lambda live, margin: server.metrics.margin.observe(margin), server.clock,
            )  # fmt: skip
            server.metrics.model.labels(name, str(player.step), player.weights[:12]).set(1)
        self._check_fits(server.fits(LOCAL_PATH), players, many=server.clocked)
        self._save(key, server)
        tell("looking for followers of beats and chords")
        server.followers = Followers.of(self.registry)
        server.metrics.admission.set(1)
        say(f"ready after {time.monotonic() - began:.0f} s: {', '.join(served)}")
        return served

    def _player(self, name: str, folder: Folder, clocked: bool, report: Callable[[str], None]) -> Player:
        report(f"loading {name}")
        player = self._load(folder, self.runtime)
        if self.runtime or player.device.type != "cpu" or player.runtime.compile != "auto":
            return player
        faster = self._settings(name, player, clocked, report)
        if not faster:
            return player
        compiled = self._load(folder, faster)
        if not clocked and not self._compiles(name, compiled):
            return player
        self._faster[name] = faster
        return compiled

    def _settings(self, name: str, player: Player, clocked: bool, report: Callable[[str], None]) -> Sequence[str]:
        """Choose KEY=VALUE of [runtime] that make a player on a CPU as fast as it should be; () for those it has."""
        if self._before is not None:
            return self._before.faster.get(name, ())
        budget = measure(slots_of(player, 1), TICKS // 3, warm=10)
        faster = faster_settings(budget, clocked=clocked)
        if not faster:
            return ()
        took = f"{name} takes {1000 * budget.load * budget.frame:.0f} ms for each {1000 * budget.frame:.0f} ms of music"
        if why := lacking(player.device):
            report(f"{took}, and cannot be compiled here: {why}")
            self._slower.append(name)
            return ()
        report(f"{took}: compiling it, once, which takes half a minute to two minutes")
        return faster

    def _load(self, folder: Folder, runtime: Sequence[str]) -> Player:
        return self.stack.enter_context(player_of(folder, self.registry, self.guidance, runtime))

    def _compiles(self, name: str, player: Player) -> bool:
        """Make the slot of a player that is compiled; False, with a warning, where the compiler fails."""
        try:
            self._slots[name] = slots_of(player, 1)
        except Exception as error:  # of the compiler, and of what it calls
            warn(f"{name} plays uncompiled, since its compilation failed: {first_line(error)}")
            self._slower.append(name)
            self._before = None  # its figures were those of the compiled model
            return False
        return True

    def _key(self, server: Server) -> str:
        settings = [*self.runtime, sorted((self.guidance or {}).items())]
        return key_of(self.runs, slots=self.slots, clocked=server.clocked, settings=settings)

    def _budget(self, name: str, slots: AudioSessionBatch) -> LatencyBudget:
        """The measured budget of a run, now or before; either way its slots are warm afterwards."""
        if self._before is None:
            return measure(slots, TICKS)
        return self._before.budget(name, measure(slots, 1))

    def _save(self, key: str, server: Server) -> None:
        """Save what was measured now, unless nothing fits or a run could not be made faster: the next start may find
        the machine less busy, or with a compiler.
        """
        capacity = self._capacity
        fits = any(one.fits for one in server.fits(LOCAL_PATH).values()) and (capacity is None or capacity.fits)
        if self._before is None and fits and not self._slower:
            budgets = {name: parts_of(budget) for name, budget in server.measured.items()}
            shares = {} if capacity is None else capacity.shares
            save(key, Measures(self._faster, budgets, None if capacity is None else capacity.fits, shares))

    def _make_slots(
        self, server: Server, players: Mapping[str, Player], report: Callable[[str], None]
    ) -> dict[str, AudioSessionBatch]:
        """Make slots for each run: the requested number, or the measured capacity."""
        if not server.clocked:
            return {name: self._slots.get(name) or slots_of(player, 1) for name, player in players.items()}
        if self._before is not None and self._before.fits is not None:
            known = Capacity(self._before.fits, self._before.shares)
            say(known.describe())
            server.metrics.capacity.set(known.fits)
            return {name: slots_of(player, known.fits) for name, player in players.items()}
        report("measuring capacity")
        ladder = LADDER if self.slots is None else (self.slots,)
        self._capacity = capacity = measure_capacity(players, ladder, report)
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
            raise UserError(f"{text}; --force serves all the same, and late output is silent")

    def _check_fits(self, fits: Mapping[str, Fit], players: Mapping[str, Player], *, many: bool) -> None:
        """Report the budget of each run for a page on this machine. Raises CombinationError if none fits and mode is
        serve; in jam mode the page shows it.
        """
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
        warn(f"{text}; the page plays all the same where you insist, and late output is silent")


def faster_settings(budget: LatencyBudget, *, clocked: bool) -> Sequence[str]:
    """Return the runtime settings with which a model should play that has this budget on a CPU without any.

    In jam it is made faster unless it is EASY, since a browser plays beside it; in serve, where it does not fit at all.
    It is quantized only where compiling alone, which leaves two fifths of the time, would not do. Not if it would not
    fit at any speed.
    """
    if fit("", budget, LOCAL_PATH, clocked=clocked).fits:
        return () if clocked or budget.load <= EASY else COMPILED
    at_best = evolve(budget, encode=0.0, first=0.0, chunk=0.0, decode=0.0, jitter=0.0)
    if not fit("", at_best, LOCAL_PATH, clocked=clocked).fits:
        return ()
    return FASTEST if clocked or budget.load > 1 else COMPILED
