"""A run at work: its slots, and the sessions that play in them. All of it is the model thread's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from attrs import define, field

from accomp.core.compute.devices import number_of
from accomp.core.model.conditions import class_names
from accomp.core.music.instruments import CLASSES, NOT_TARGETS
from accomp.core.music.labels import INSTRUMENT
from accomp.core.registry import Registry
from accomp.core.runs.run import Player
from accomp.core.serving.limits import Limits
from accomp.core.serving.messages import (
    OFF,
    Dial,
    Panic,
    SetChart,
    SetInstrument,
    SetMetronome,
    Switch,
    Tempo,
)
from accomp.core.serving.playing.beats import Beats, Unplayable
from accomp.core.serving.playing.live import LiveSession, Voice, crossed
from accomp.core.serving.playing.ticks import Ticks
from accomp.core.streaming.audio_batch import AudioSessionBatch

LEAD = 0.3
"""Seconds between the beginning of a session and its count-in at least."""
SETTLE = 2.0
"""Seconds that a new instrument listens before it is heard."""


@define(eq=False, repr=False)
class Stage:
    """A run, its slots and its sessions: begins them, ticks, changes and ends them.

    Attributes:
        clocked: whether the server's clock drives the ticks (many sessions), or the input of the one session.
        sessions: those that play; `waiting`: those whose first input has not come.
    """

    name: str
    player: Player
    slots: AudioSessionBatch
    registry: Registry
    clocked: bool
    ticks: Ticks
    limits: Limits
    sent: Callable[[LiveSession, float], None] = lambda live, margin: None
    sessions: list[LiveSession] = field(factory=list)
    waiting: list[LiveSession] = field(factory=list)
    _due: float = field(factory=time.monotonic)
    _last: float = field(factory=time.monotonic)

    @property
    def rate(self) -> int:
        return self.slots.space.sample_rate

    @property
    def period(self) -> float:
        """Seconds of a tick."""
        return self.slots.hop / self.rate

    @property
    def free(self) -> int:
        """Slots in which nobody plays or is about to."""
        return self.slots.free - len(self.waiting)

    @property
    def instruments(self) -> tuple[str, ...]:
        """Those that the model is told of and can play; none where it is told of none."""
        condition = self.player.model.conditions.labels.get(INSTRUMENT)
        if condition is None:
            return ()
        deaf = {CLASSES[number] for number in NOT_TARGETS}
        return tuple(name for name in class_names(INSTRUMENT, condition) if name not in deaf)

    def enter(self, live: LiveSession) -> None:
        """A session that begins with its first frames."""
        self.waiting.append(live)

    def leave(self, live: LiveSession) -> None:
        """End a session, if it is here; its slots are free."""
        if live in self.waiting:
            self.waiting.remove(live)
        if live in self.sessions:
            self.sessions.remove(live)
            for voice in live.voices:
                self.slots.leave(voice.slot)
            live.voices.clear()

    # --- time

    def wait(self, now: float) -> float:
        """Seconds until the next tick, 0 or less where it is due; takes in what has come."""
        for live in [*self.waiting, *self.sessions]:
            try:
                live.absorb(now)
            except ValueError as error:
                self._end(live, "lost", str(error))
                continue
            if live.keep_up():
                self.ticks.reanchored += 1
                live.tell(
                    type="problem", what="input", why="the model is too slow here: it left out what it was behind"
                )
        self._begin()
        if self.clocked:
            return self._due - now
        if not self.sessions:
            return 1.0
        if any(live.hearing.available >= self.slots.hop for live in self.sessions):
            return 0.0
        stalled = max(live.heard_at for live in self.sessions) + self.limits.stall
        return max(stalled, self._last + self.period) - now

    def tick(self, now: float) -> None:
        """The next k frames of everyone."""
        late = now - self._due if self.clocked else 0.0
        seconds, self._last = self.period, now
        began = time.perf_counter()
        heard: dict[int, np.ndarray] = {}
        for live in self.sessions:
            sound = live.take(self.slots.hop)
            heard |= {voice.slot: sound for voice in live.voices}
        prepared = time.perf_counter()
        made = self.slots.step(heard)
        computed = time.perf_counter()
        for live in list(self.sessions):
            self._play(live, made)
            if live.beats is not None and live.beats.failure:
                self._end(live, "error", live.beats.failure)
                continue
            if live.follow_clock(seconds, now):
                self.ticks.reanchored += 1
                live.tell(type="problem", what="clock", why="the clocks of page and server had to be matched anew")
        ended = time.perf_counter()
        self.ticks.add(late, ended - began, resample=prepared - began + ended - computed, **self.slots.spent)
        if self.clocked:
            self._due += self.period
            if now - self._due > 0.5:  # it cannot be made up for
                self._due = now
        self._silent(now)

    def idle(self, now: float) -> None:
        """A tick is due and nobody plays: time goes on."""
        self._due = max(self._due + self.period, now)
        self._silent(now)

    def _play(self, live: LiveSession, made: Mapping[int, tuple[int, np.ndarray]]) -> None:
        first = live.voices[0]
        if first.slot not in made:
            return
        place, sound = made[first.slot]
        sample = first.origin + place
        if live.swap_at is not None and sample >= live.swap_at:
            sound = self._swapped(live, sound, made)
        if live.play(sample, sound) is not None:
            self.sent(live, live.margin)

    def _swapped(self, live: LiveSession, sound: np.ndarray, made: Mapping[int, tuple[int, np.ndarray]]) -> np.ndarray:
        live.swap_at = None
        old, new = live.voices
        if new.slot not in made:
            live.swap_at = 0
            return sound
        live.voices = [new]
        self.slots.leave(old.slot)
        return crossed(sound, made[new.slot][1], self.rate)

    def _silent(self, now: float) -> None:
        for live in [*self.waiting, *self.sessions]:
            silent = now - live.heard_at
            if silent > self.limits.silent_lost:
                self._end(live, "lost", f"nothing was heard from the page for {silent:.0f} s")
            elif silent > self.limits.silent_told and not live.told_silent:
                live.told_silent = True
                live.tell(type="problem", what="input", why=f"nothing has come from the page for {silent:.0f} s")

    def _end(self, live: LiveSession, how: str, why: str) -> None:
        self.leave(live)
        live.ended(how, why)

    # --- beginning

    def _begin(self) -> None:
        for live in list(self.waiting):
            enough = 1
            if live.drift is not None:
                enough = self.slots.hop + round(live.drift.target * self.rate)
            if live.hearing.available >= enough:
                self.waiting.remove(live)
                try:
                    self._join(live)
                except (ValueError, Unplayable) as error:
                    live.ended("error", str(error))

    def _join(self, live: LiveSession) -> None:
        start = live.start
        slot = self._slot(live, start.instrument)
        live.voices = [Voice(slot, 0)]
        self.sessions.append(live)
        place = live.place(live.voices[0], self.slots.first_place())
        told: dict[str, Any] = {"type": "playing", "place": max(0, place)}
        begins = max(0, place)
        if start.count_in is not None:
            beat = 60 / start.count_in.bpm
            now = live.hearing.first or 0
            first_click = now + (LEAD + max(0.0, start.first_ms / 1000)) * live.hearing.rate
            begins = round(max(begins, first_click + start.count_in.beats * beat * live.hearing.rate))
            told["count_in_end"] = begins
            live.silent_until = round(live.hearing.sample_at(begins))
        live.beats = Beats(self.player, self.registry, live.hearing.rate, spare=dict(live.spare))
        live.tell(**told, **live.fits)
        self._conduct(live, begins)

    def _conduct(self, live: LiveSession, begins: int) -> None:
        start, beats = live.start, live.beats
        assert beats is not None
        metronome = start.metronome
        if isinstance(metronome, Tempo) and metronome.place is None:
            metronome = Tempo(metronome.bpm, metronome.beats_per_bar, begins)
        try:
            if metronome != OFF:
                self._tell(live, beats.metronome(metronome, begins))
            if start.chart != OFF:
                self._tell(live, beats.chords(start.chart, begins, begins))
        except Unplayable as error:
            live.tell(type="problem", what="metronome" if beats.tempo is None else "chart", why=str(error))

    def _slot(self, live: LiveSession, instrument: str | None, number: int = 0) -> int:
        start = live.start
        labels = {}
        if instrument is not None and self.instruments:
            condition = self.player.model.conditions.labels[INSTRUMENT]
            labels = {INSTRUMENT: class_names(INSTRUMENT, condition).index(instrument)}
        seed = number_of(live.id) if start.seed is None else start.seed
        temperature = start.temperature if self.slots.slots.has_temperature else None
        return self.slots.join(session=number_of("stream", number), seed=seed, labels=labels, temperature=temperature)

    # --- changes while playing

    def change(self, live: LiveSession, message: Any) -> None:
        """A message of a session that plays; what comes of it is told."""
        if live not in self.sessions:
            live.tell(type="problem", what="session", why="the session does not play yet")
            return
        try:
            what, place = self._changed(live, message)
        except (Unplayable, ValueError) as error:
            live.tell(type="problem", what=_what(message), why=str(error))
            return
        live.tell(type="applied", what=what, place=place)
        if live.recording is not None:
            live.recording.note(changes=[{"place": place, "what": what, "to": str(message)}])

    def _changed(self, live: LiveSession, message: Any) -> tuple[str, int]:
        voice = live.voices[0]
        now = live.place(voice, self.slots.next_place(voice.slot))
        match message:
            case Dial():
                for one in live.voices:
                    self.slots.set_temperature(one.slot, message.temperature)
            case Switch("mute"):
                live.muted = message.on
            case Switch("freeze"):
                live.frozen = message.on
            case Panic():
                live.muted = True
                live.outbox.silence()
            case SetMetronome():
                assert live.beats is not None
                live.beats.spare |= live.spare
                self._tell(live, live.beats.metronome(message.value, now))
            case SetChart():
                assert live.beats is not None
                live.beats.spare |= live.spare
                self._tell(live, live.beats.chords(message.value, message.place, now))
            case SetInstrument():
                now = self._instrument(live, message.name)
        return _what(message), now

    def _tell(self, live: LiveSession, names: Iterable[str]) -> None:
        """Tell all voices of these timelines as they are now."""
        assert live.beats is not None
        for voice in live.voices:
            for name, source in live.beats.sources(names, self._place_of(live, voice), voice.following).items():
                self.slots.set_timeline(voice.slot, name, source)

    def _place_of(self, live: LiveSession, voice: Voice) -> Callable[[int], float]:
        return lambda frame: live.hearing.place_at(voice.origin + self.slots.place_of(frame))

    def _instrument(self, live: LiveSession, name: str) -> int:
        """A new session that listens for a while beside the old one, or at once in its place where no slot is free."""
        if name not in self.instruments:
            raise ValueError(f"no instrument {name!r}; there are {', '.join(self.instruments) or 'none to choose'}")
        if len(live.voices) > 1:
            raise ValueError("the last change of instrument is not through yet")
        old = live.voices[0]
        number = live.hearing.taken
        place = self.slots.next_place(old.slot)
        if self.free > 0:
            new = Voice(self._slot(live, name, number), number)
            live.voices.append(new)
            live.swap_at = old.origin + place + round(SETTLE * self.rate)
        else:
            self.slots.leave(old.slot)
            new = Voice(self._slot(live, name, number), number)
            live.voices = [new]
            live.rise()
        assert live.beats is not None
        told = live.beats.sources(self.player.model.timelines, self._place_of(live, new), new.following)
        for key, source in told.items():
            self.slots.set_timeline(new.slot, key, source)
        return round(live.hearing.place_at(live.swap_at if live.swap_at is not None else old.origin + place))


def _what(message: Any) -> str:
    match message:
        case Dial():
            return "temperature"
        case Switch():
            return str(message.what)
        case Panic():
            return "panic"
        case SetMetronome():
            return "metronome"
        case SetChart():
            return "chart"
        case SetInstrument():
            return "instrument"
    return "message"
