"""Metronome and chart of one session, in places of its page; both may change while it plays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
from attrs import define, evolve, field

from accomp.core.errors import PluginError
from accomp.core.generation.followers import followed, set_chord_forecast
from accomp.core.interfaces import Follower
from accomp.core.music.annotations import NOTHING, Annotations
from accomp.core.music.charts import Chart, read_chart, source_of
from accomp.core.music.timelines import Source, source, steady
from accomp.core.registry import Registry
from accomp.core.runs.player import Player
from accomp.core.serving.protocol.messages import FOLLOW, OFF, FollowClock, Metronome, Tempo
from accomp.core.streaming.followed_timeline import FollowedTimeline

T = TypeVar("T")


MOVED = (0.003, 5e-4)
"""Seconds of its grid, or share of its tempo, by which a clock has to move for the model to be given it anew."""


class TempoClock(Protocol):
    """A clock of the server's machine (core/serving/machine/clock.py)."""

    def tempo(self, beats_per_bar: int) -> Tempo | None: ...


class Unplayable(ValueError):
    """A metronome or a chart that is not available; the message is for the musician."""


@define(eq=False)
class SessionTimelines:
    """The timelines of a session, and the Sources that carry them to each of its voices.

    Attributes:
        rate: of the page (Hz); places are its samples.
        tempo: the set metronome, its place that of a downbeat; None without one.
        chart: the typed chart, and the place of its first bar.
        follows: timelines that are estimated from the input.
        spare: followers made in advance, since making one may take longer than a tick.
        failure: error of a follower, for which the session must end; "" without one.
        clock: of the server's machine; None without one. clocked: beats a bar by it, while it sets the metronome.
    """

    player: Player
    registry: Registry
    rate: int
    tempo: Tempo | None = None
    chart: tuple[Chart, int] | None = None
    follows: set[str] = field(factory=set)
    spare: dict[str, FollowedTimeline] = field(factory=dict)
    failure: str = ""
    clock: TempoClock | None = None
    clocked: int | None = None

    def set_metronome(self, value: Metronome, now: int) -> tuple[str, ...]:
        """Set the metronome, from about place `now` on -> the timelines that change.

        A typed chart continues in its bar. Raises Unplayable.
        """
        self._check("metronome", value)
        if isinstance(value, Tempo):
            tempo = evolve(value, place=now if value.place is None else value.place)
            if self.chart is not None and self.tempo is not None:
                self.chart = self.chart[0], _move_chart(self.chart[1], self.tempo, tempo, now, self.rate)
            self.tempo, self.clocked = tempo, None
            self.follows.discard("metronome")
            return ("metronome", "chart") if self.chart is not None else ("metronome",)
        if isinstance(value, FollowClock):
            if self.clock is None:
                raise Unplayable("no MIDI clock reaches this server; accomp jam --device DEVICE --midi-clock PORT")
            self.tempo, self.clocked = None, value.beats_per_bar
            self.follows.discard("metronome")
            return tuple(dict.fromkeys(("metronome", *self.follow_clock(now))))
        if self.chart is not None:
            raise Unplayable("the chart needs a metronome with a tempo; take the chart off first")
        self._follow("metronome", value)
        self.tempo, self.clocked = None, None
        return ("metronome",)

    def follow_clock(self, now: int) -> tuple[str, ...]:
        """Take the clock's tempo, if it sets the metronome and has moved -> the timelines that change.

        A typed chart begins where the song of the clock begins.
        """
        if self.clocked is None or self.clock is None:
            return ()
        tempo = self.clock.tempo(self.clocked)
        if tempo is None if self.tempo is None else tempo is not None and _agree(self.tempo, tempo, now, self.rate):
            return ()
        self.tempo = tempo
        if self.chart is None:
            return ("metronome",)
        if tempo is not None and tempo.place is not None:
            self.chart = self.chart[0], tempo.place
        return ("metronome", "chart")

    def set_chart(self, value: str, place: int | None, now: int) -> tuple[str, ...]:
        """Set the chart: typed, "follow" or "off"; its first bar begins at `place`, or at the next downbeat."""
        self._check("chart", value)
        if value in (OFF, FOLLOW):
            self._follow("chart", value)
            self.chart = None
            return ("chart",)
        try:
            chart = read_chart(value)
        except ValueError as error:
            raise Unplayable(str(error)) from None
        if self.clocked is not None:
            self.follows.discard("chart")
            self.chart = chart, now if self.tempo is None or self.tempo.place is None else self.tempo.place
            return ("chart",)
        if self.tempo is None or self.tempo.place is None:
            raise Unplayable(
                "a chart that is typed needs a metronome with a tempo, to say when its chords come; tap one"
            )
        bar = bar_length(self.tempo, self.rate)
        after = self.tempo.place + -(-(now - self.tempo.place) // bar) * bar
        self.follows.discard("chart")
        self.chart = chart, round(after) if place is None else place
        return ("chart",)

    def sources(
        self, names: Iterable[str], place_of: Callable[[int], float], following: dict[str, FollowedTimeline]
    ) -> dict[str, Source | None]:
        """Sources of these timelines for a voice; None: withheld.

        place_of: number of a frame of the voice -> the page's place at which its audio begins. following: followers of
        the voice's input, updated in place.
        """
        return {name: self._source(name, place_of, following) for name in names}

    def now(self, place: int, following: Mapping[str, FollowedTimeline]) -> tuple[float | None, str | None]:
        """Tempo in beats a minute and chord at a place, set or followed; None if unknown."""
        bpm, chord = self.tempo.bpm if self.tempo else None, None
        if (followed_timeline := following.get("metronome")) and (beats := followed_timeline.summary().last.beats):
            bpm = 60 / float(np.diff(beats.times[-2:])[0])
        if self.chart is not None and self.tempo is not None:
            at = (place - self.chart[1]) / bar_length(self.tempo, self.rate)
            bars = self.chart[0].bars
            if at >= 0:
                chords = bars[int(at) % len(bars)]
                chord = chords[min(int(at % 1 * len(chords)), len(chords) - 1)]
        elif (followed_timeline := following.get("chart")) and followed_timeline.summary().last.chords:
            chord = followed_timeline.summary().last.chords[-1].chord
        return bpm, chord

    def _check(self, name: str, value: object) -> None:
        if value != OFF and name not in self.player.model.timelines:
            raise Unplayable(f"this model takes no {name}")

    def _follow(self, name: str, value: object) -> None:
        if value == FOLLOW:
            self.spare[name] = self._take_follower(name)
            self.follows.add(name)
        else:
            self.follows.discard(name)

    def _take_follower(self, name: str) -> FollowedTimeline:
        timeline = self.spare.pop(name, None) or follower(self.player, self.registry, name)
        timeline.follower = GuardedFollower(timeline.follower, self._failed)
        return timeline

    def _failed(self, error: Exception) -> None:
        self.failure = f"the follower of the music has failed: {error}"

    def _source(
        self, name: str, place_of: Callable[[int], float], following: dict[str, FollowedTimeline]
    ) -> Source | None:
        following.pop(name, None)
        if name in self.follows:
            following[name] = self._take_follower(name)
        set_chord_forecast(following, None)  # by the followed metronome, if any
        if name in following:
            return following[name]
        tempo, chart, rate = self.tempo, self.chart, self.player.tokenizer.space.frame_rate
        if tempo is None or (name == "chart" and chart is None):
            return None
        grid = self._grid(tempo if name == "metronome" or chart is None else evolve(tempo, place=chart[1]))

        def values(first: int, frames: int) -> np.ndarray:
            start = place_of(first) / self.rate - first / rate
            if name == "metronome" or chart is None:
                return source(name, grid, rate, start)(first, frames)
            return source_of(chart[0], grid, rate, start)(first, frames)

        return values

    def _grid(self, tempo: Tempo) -> Annotations:
        assert tempo.place is not None
        return steady(tempo.bpm, tempo.beats_per_bar, tempo.place / self.rate)


def follower(player: Player, registry: Registry, name: str) -> FollowedTimeline:
    """Make the follower of a timeline in a session's input. Raises Unplayable."""
    try:
        return followed(player, registry, {name: FOLLOW})[name]
    except PluginError as error:
        raise Unplayable(f"nothing here can follow the {name}: {error}") from None


@define(eq=False)
class GuardedFollower:
    """A follower whose failure ends its session only: afterwards it returns nothing."""

    inner: Follower
    failed: Callable[[Exception], None]
    follows: Any = field(init=False)
    fingerprint: Any = field(init=False)
    provenance: Any = field(init=False)
    _broken: bool = False

    def __attrs_post_init__(self) -> None:
        self.follows, self.fingerprint = self.inner.follows, self.inner.fingerprint
        self.provenance = self.inner.provenance

    def begin(self) -> None:
        self._try(self.inner.begin)

    def push(self, audio: np.ndarray) -> None:
        self._try(lambda: self.inner.push(audio))

    def known(self) -> Annotations:
        return self._try(self.inner.known) or NOTHING

    def _try(self, work: Callable[[], T]) -> T | None:
        try:
            return None if self._broken else work()
        except Exception as error:  # a plugin may raise anything
            self._broken = True
            self.failed(error)
            return None


def bar_length(tempo: Tempo, rate: int) -> float:
    """Samples of a bar."""
    return tempo.beats_per_bar * 60 * rate / tempo.bpm


def _agree(before: Tempo, after: Tempo, now: int, rate: int) -> bool:
    """Test that two tempi give the same bars about place `now`."""
    bars = _bars(after, now, rate) - _bars(before, now, rate)
    return abs(bars) * bar_length(after, rate) / rate < MOVED[0] and abs(after.bpm / before.bpm - 1) < MOVED[1]


def _bars(tempo: Tempo, place: float, rate: int) -> float:
    """Bars from the metronome's downbeat to a place."""
    assert tempo.place is not None
    return (place - tempo.place) / bar_length(tempo, rate)


def _move_chart(begin: int, before: Tempo, after: Tempo, now: int, rate: int) -> int:
    """Move the begin of a chart to another tempo such that the chart continues in the same bar."""
    assert after.place is not None
    bar = bar_length(after, rate)
    shifted = now - (now - begin) / bar_length(before, rate) * bar
    return round(after.place + round(_bars(after, shifted, rate)) * bar)
