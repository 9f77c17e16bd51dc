"""A run in service: its slots, and the sessions in them. For the model's thread alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from attrs import define, field

from accomp.core.registry import Registry
from accomp.core.runs.player import Player
from accomp.core.serving.limits import Limits
from accomp.core.serving.playing.live import LiveSession, Voice, cross_fade
from accomp.core.serving.playing.session_timelines import SessionTimelines, TempoClock, Unplayable
from accomp.core.serving.playing.ticks import Ticks
from accomp.core.serving.playing.voices import Voices
from accomp.core.serving.protocol.messages import (
    OFF,
    Panic,
    SetChart,
    SetInstrument,
    SetMetronome,
    SetTemperature,
    Switch,
    Tempo,
)
from accomp.core.streaming.audio_batch import AudioSessionBatch

LEAD = 0.3
"""Minimum seconds between the start of a session and its count-in."""


@define(eq=False, repr=False)
class ServedRun:
    """A run, its slots and its sessions: starts, ticks, changes and ends them.

    Attributes:
        clocked: the server's clock drives the ticks (many sessions); else the input of the one session does.
        clock: of the machine, which may set the metronome of a session; None without one.
        sessions: those that play; `waiting`: those without input yet.
    """

    name: str
    player: Player
    slots: AudioSessionBatch
    registry: Registry
    clocked: bool
    ticks: Ticks
    limits: Limits
    sent: Callable[[LiveSession, float], None] = lambda live, margin: None
    clock: TempoClock | None = None
    sessions: list[LiveSession] = field(factory=list)
    waiting: list[LiveSession] = field(factory=list)
    voices: Voices = field(init=False)
    _due: float = field(factory=time.monotonic)
    _last: float = field(factory=time.monotonic)

    def __attrs_post_init__(self) -> None:
        self.voices = Voices(self.player, self.slots)

    @property
    def rate(self) -> int:
        return self.slots.space.sample_rate

    @property
    def period(self) -> float:
        """Seconds of a tick."""
        return self.slots.hop / self.rate

    @property
    def free(self) -> int:
        """Slots that are neither taken nor reserved."""
        return self.slots.free - len(self.waiting)

    @property
    def instruments(self) -> tuple[str, ...]:
        """Instruments that the model can play; none without an instrument condition."""
        return self.voices.instruments

    def enter(self, live: LiveSession) -> None:
        """Add a session, which starts with its first frames."""
        self.waiting.append(live)

    def leave(self, live: LiveSession) -> None:
        """End a session, if it is here, and free its slots."""
        if live in self.waiting:
            self.waiting.remove(live)
        if live in self.sessions:
            self.sessions.remove(live)
            for voice in live.voices:
                self.slots.leave(voice.slot)
            live.voices.clear()

    # --- time

    def wait(self, now: float) -> float:
        """Seconds until the next tick, 0 or less if it is due; processes queued input."""
        for live in [*self.waiting, *self.sessions]:
            try:
                live.absorb(now)
            except ValueError as error:
                self._end(live, "lost", str(error))
                continue
            if live.drop_excess():
                self.ticks.resynced += 1
                live.send(type="problem", what="input", why="the model is too slow here: input was dropped")
        self._begin()
        if self.clocked:
            return self._due - now
        if not self.sessions:
            return 1.0
        if any(live.input.available >= self.slots.hop for live in self.sessions):
            return 0.0
        stalled = max(live.last_input_at for live in self.sessions) + self.limits.stall
        return max(stalled, self._last + self.period) - now

    def tick(self, now: float) -> None:
        """Compute the next k frames of all sessions."""
        late = now - self._due if self.clocked else 0.0
        seconds, self._last = self.period, now
        began = time.perf_counter()
        inputs: dict[int, np.ndarray] = {}
        for live in self.sessions:
            self.voices.follow_clock(live)
            sound = live.take(self.slots.hop)
            inputs |= {voice.slot: sound for voice in live.voices}
        prepared = time.perf_counter()
        outputs = self.slots.step(inputs)
        computed = time.perf_counter()
        for live in list(self.sessions):
            self._play(live, outputs)
            if live.timelines is not None and live.timelines.failure:
                self._end(live, "error", live.timelines.failure)
                continue
            if live.correct_clock(seconds, now):
                self.ticks.resynced += 1
                live.send(type="problem", what="clock", why="the clocks of page and server were resynchronised")
        ended = time.perf_counter()
        self.ticks.add(late, ended - began, resample=prepared - began + ended - computed, **self.slots.spent)
        if self.clocked:
            self._due += self.period
            if now - self._due > 0.5:  # beyond recovery
                self._due = now
        self._check_silent(now)

    def idle(self, now: float) -> None:
        """Skip a due tick without sessions."""
        self._due = max(self._due + self.period, now)
        self._check_silent(now)

    def _play(self, live: LiveSession, outputs: Mapping[int, tuple[int, np.ndarray]]) -> None:
        first = live.voices[0]
        if first.slot not in outputs:
            return
        place, sound = outputs[first.slot]
        sample = first.origin + place
        if live.swap_at is not None and sample >= live.swap_at:
            sound = self._swap_voice(live, sound, outputs)
        if live.play(sample, sound) is not None:
            self.sent(live, live.margin)

    def _swap_voice(
        self, live: LiveSession, sound: np.ndarray, outputs: Mapping[int, tuple[int, np.ndarray]]
    ) -> np.ndarray:
        live.swap_at = None
        old, new = live.voices
        if new.slot not in outputs:
            live.swap_at = 0
            return sound
        live.voices = [new]
        self.slots.leave(old.slot)
        return cross_fade(sound, outputs[new.slot][1], self.rate)

    def _check_silent(self, now: float) -> None:
        for live in [*self.waiting, *self.sessions]:
            silent = now - live.last_input_at
            if silent > self.limits.silent_lost:
                self._end(live, "lost", f"nothing was heard from the page for {silent:.0f} s")
            elif silent > self.limits.silent_warning and not live.warned_silent:
                live.warned_silent = True
                live.send(type="problem", what="input", why=f"nothing has come from the page for {silent:.0f} s")

    def _end(self, live: LiveSession, how: str, why: str) -> None:
        self.leave(live)
        live.ended(how, why)

    # --- beginning

    def _begin(self) -> None:
        for live in list(self.waiting):
            enough = 1
            if live.drift is not None:
                enough = self.slots.hop + round(live.drift.target * self.rate)
            if live.input.available >= enough:
                self.waiting.remove(live)
                try:
                    self._join(live)
                except (ValueError, Unplayable) as error:
                    live.ended("error", str(error))

    def _join(self, live: LiveSession) -> None:
        start = live.start
        slot = self.voices.join(live, start.instrument)
        live.voices = [Voice(slot, 0)]
        self.sessions.append(live)
        assert live.input.first is not None, "a session joins with input"
        place = live.output.first_place(self.slots.first_place(), live.input.first)
        message: dict[str, Any] = {"type": "playing", "place": max(0, place)}
        first_beat = max(0, place)
        if start.count_in is not None:
            beat = 60 / start.count_in.bpm
            now = live.input.first or 0
            first_click = now + (LEAD + max(0.0, start.first_ms / 1000)) * live.input.rate
            first_beat = round(max(first_beat, first_click + start.count_in.beats * beat * live.input.rate))
            message["count_in_end"] = first_beat
            live.silent_until = round(live.input.sample_at(first_beat))
        live.timelines = SessionTimelines(
            self.player, self.registry, live.input.rate, spare=dict(live.spare), clock=self.clock
        )
        live.send(**message, **live.fits)
        self._set_timelines(live, first_beat)

    def _set_timelines(self, live: LiveSession, first_beat: int) -> None:
        start, timelines = live.start, live.timelines
        assert timelines is not None
        metronome = start.metronome
        if isinstance(metronome, Tempo) and metronome.place is None:
            metronome = Tempo(metronome.bpm, metronome.beats_per_bar, first_beat)
        try:
            if metronome != OFF:
                self.voices.update_timelines(live, timelines.set_metronome(metronome, first_beat))
            if start.chart != OFF:
                self.voices.update_timelines(live, timelines.set_chart(start.chart, first_beat, first_beat))
        except Unplayable as error:
            what = "metronome" if timelines.tempo is None and timelines.clocked is None else "chart"
            live.send(type="problem", what=what, why=str(error))

    # --- changes while playing

    def change(self, live: LiveSession, message: Any) -> None:
        """Apply a message of a playing session, and report the result to it."""
        if live not in self.sessions:
            live.send(type="problem", what="session", why="the session does not play yet")
            return
        try:
            what, place = self._apply(live, message)
        except (Unplayable, ValueError) as error:
            live.send(type="problem", what=_setting(message), why=str(error))
            return
        live.send(type="applied", what=what, place=place)
        if live.recording is not None:
            live.recording.note(changes=[{"place": place, "what": what, "to": str(message)}])

    def _apply(self, live: LiveSession, message: Any) -> tuple[str, int]:
        voice = live.voices[0]
        now = live.place(voice, self.slots.next_place(voice.slot))
        match message:
            case SetTemperature():
                for one in live.voices:
                    self.slots.set_temperature(one.slot, message.temperature)
            case Switch("mute"):
                live.muted = message.on
            case Switch("freeze"):
                live.frozen = message.on
            case Panic():
                live.muted = True
                live.outbox.clear_audio()
            case SetMetronome():
                assert live.timelines is not None
                live.timelines.spare |= live.spare
                self.voices.update_timelines(live, live.timelines.set_metronome(message.value, now))
            case SetChart():
                assert live.timelines is not None
                live.timelines.spare |= live.spare
                self.voices.update_timelines(live, live.timelines.set_chart(message.value, message.place, now))
            case SetInstrument():
                now = self.voices.change_instrument(live, message.name, replace=self.free <= 0)
        return _setting(message), now


def _setting(message: Any) -> str:
    match message:
        case SetTemperature():
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
