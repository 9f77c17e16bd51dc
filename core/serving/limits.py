"""What a client may do, and how often; whoever does more is told and closed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from attrs import define, field, frozen


@frozen
class Limits:
    """Of one server. Times in seconds.

    Attributes:
        session: how long a session may last; it is told a minute before.
        hello: how long a client may wait with its first message.
        hellos_per_minute, sessions_per_address: of one address.
        texts_per_second: messages besides sound.
        audio_rate: sound a client may send, in real times, over `audio_over`.
        resume: how long the slot of a lost connection is kept.
        silent_told, silent_lost: how long a client may send nothing until it is told, until its slot is taken back.
        stalled: how long a client may not read.
        stall: how long a session that its own input drives waits for it, before it goes on by the server's clock.
        ending: how long sessions go on when the server is asked to end.
        late_share: of the last minute's ticks that may have been late where somebody new is let in.
    """

    session: float = 3600.0
    hello: float = 5.0
    hellos_per_minute: int = 10
    sessions_per_address: int = 2
    texts_per_second: int = 20
    audio_rate: float = 1.5
    audio_over: float = 2.0
    resume: float = 5.0
    silent_told: float = 5.0
    silent_lost: float = 15.0
    stalled: float = 5.0
    stall: float = 1.0
    ending: float = 30.0
    late_share: float = 1e-4


class Flood(Exception):
    """A client sends more than it may, in words for it."""


@define
class Meter:
    """How much one connection sends. Raises Flood from `text` and `sound`."""

    limits: Limits
    rate: int
    now: Callable[[], float] = time.monotonic
    _texts: deque[float] = field(factory=deque, init=False)
    _budget: float = field(init=False, default=0.0)
    _at: float | None = field(init=False, default=None)

    def text(self) -> None:
        """A message besides sound has come."""
        now = self.now()
        self._texts.append(now)
        while self._texts and self._texts[0] < now - 1:
            self._texts.popleft()
        if len(self._texts) > self.limits.texts_per_second:
            raise Flood(f"more than {self.limits.texts_per_second} messages in a second")

    def sound(self, samples: int) -> None:
        """So many samples have come: a bucket that real time empties."""
        now = self.now()
        passed = 0.0 if self._at is None else now - self._at
        self._at = now
        self._budget = max(0.0, self._budget - passed * self.limits.audio_rate) + samples / self.rate
        if self._budget > self.limits.audio_over * self.limits.audio_rate:
            raise Flood(
                f"sound came faster than {self.limits.audio_rate:g} times real time for {self.limits.audio_over:g} s"
            )


@define
class Doorbell:
    """Hellos by address. `rings` is False where an address has come too often in the last minute."""

    limits: Limits
    now: Callable[[], float] = time.monotonic
    _rung: dict[str, deque[float]] = field(factory=dict, init=False)

    def rings(self, address: str) -> bool:
        now = self.now()
        for known in [one for one, times in self._rung.items() if times[-1] < now - 60]:
            del self._rung[known]
        times = self._rung.setdefault(address, deque())
        while times and times[0] < now - 60:
            times.popleft()
        if len(times) >= self.limits.hellos_per_minute:
            return False
        times.append(now)
        return True
