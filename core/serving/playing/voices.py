"""Voices of sessions: the slots in which they play, with their labels and timelines."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import frozen

from accomp.core.compute.devices import number_of
from accomp.core.model.conditions import class_names
from accomp.core.music.instruments import CLASSES, NOT_TARGETS, from_name, readable
from accomp.core.music.labels import INSTRUMENT
from accomp.core.runs.player import Player
from accomp.core.serving.playing.live import LiveSession, Voice
from accomp.core.serving.protocol.messages import OFF
from accomp.core.streaming.audio_batch import AudioSessionBatch

SETTLE = 2.0
"""Seconds of input that a new instrument receives before its output is played."""


@frozen(eq=False)
class Voices:
    """Joins slots for sessions, and sets their timelines and instruments. For the model's thread alone."""

    player: Player
    slots: AudioSessionBatch

    @property
    def instruments(self) -> tuple[str, ...]:
        """Instruments that the model can play; none without an instrument condition."""
        condition = self.player.model.conditions.labels.get(INSTRUMENT)
        if condition is None:
            return ()
        excluded = {CLASSES[number] for number in NOT_TARGETS}
        return tuple(name for name in class_names(INSTRUMENT, condition) if name not in excluded)

    def instrument(self, name: str) -> str:
        """Return the instrument of the model that is called so ("drums": "Percussive"). Raises ValueError for none."""
        number = from_name(name)
        if number is None or CLASSES[number] not in self.instruments:
            known = ", ".join(map(readable, self.instruments)) or "none to choose"
            raise ValueError(f"no instrument {name!r}; there are {known}")
        return CLASSES[number]

    def join(self, live: LiveSession, instrument: str | None, number: int = 0) -> int:
        """Join a slot for a session, as its voice number `number` -> the slot."""
        start = live.start
        labels = {}
        if instrument is not None and self.instruments:
            condition = self.player.model.conditions.labels[INSTRUMENT]
            labels = {INSTRUMENT: class_names(INSTRUMENT, condition).index(instrument)}
        seed = number_of(live.id) if start.seed is None else start.seed
        temperature = start.temperature if self.slots.slots.has_temperature else None
        return self.slots.join(session=number_of("stream", number), seed=seed, labels=labels, temperature=temperature)

    def update_timelines(self, live: LiveSession, names: Iterable[str]) -> None:
        """Set these timelines of all voices to their current state."""
        assert live.timelines is not None
        for voice in live.voices:
            for name, source in live.timelines.sources(names, self._place_of(live, voice), voice.following).items():
                self.slots.set_timeline(voice.slot, name, source)

    def follow_clock(self, live: LiveSession) -> None:
        """Give a session's voices the tempo of the machine's clock, if that sets its metronome and has moved."""
        timelines = live.timelines
        if timelines is None or timelines.clocked is None:
            return
        voice = live.voices[0]
        place = live.place(voice, self.slots.next_place(voice.slot))
        if not (names := timelines.follow_clock(place)):
            return
        self.update_timelines(live, names)
        if live.recording is not None:
            live.recording.note(changes=[{"place": place, "what": "clock", "to": str(timelines.tempo or OFF)}])

    def _place_of(self, live: LiveSession, voice: Voice) -> Callable[[int], float]:
        return lambda frame: live.input.place_at(voice.origin + self.slots.place_of(frame))

    def change_instrument(self, live: LiveSession, name: str, *, replace: bool) -> int:
        """Start a voice beside the old one, to be played after SETTLE, or replace it at once -> place of the change.

        Raises ValueError for an unknown instrument, and while another change is in progress.
        """
        name = self.instrument(name)
        if len(live.voices) > 1:
            raise ValueError("the previous change of instrument is not complete yet")
        old = live.voices[0]
        number = live.input.taken
        place = self.slots.next_place(old.slot)
        if not replace:
            new = Voice(self.join(live, name, number), number)
            live.voices.append(new)
            live.swap_at = old.origin + place + round(SETTLE * self.slots.space.sample_rate)
        else:
            self.slots.leave(old.slot)
            new = Voice(self.join(live, name, number), number)
            live.voices = [new]
            live.rise()
        assert live.timelines is not None
        sources = live.timelines.sources(self.player.model.timelines, self._place_of(live, new), new.following)
        for key, source in sources.items():
            self.slots.set_timeline(new.slot, key, source)
        return round(live.input.place_at(live.swap_at if live.swap_at is not None else old.origin + place))
