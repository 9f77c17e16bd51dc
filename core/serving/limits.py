"""Limits of clients in rate and time; a client that exceeds one is notified and disconnected."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from attrs import define, field, frozen


@frozen
class Limits:
    """Limits of one server. Times in seconds.

    Attributes:
        session: longest session; the client is notified a minute before.
        hello: timeout of a client's first message.
        hellos_per_minute, sessions_per_address: of one address.
        texts_per_second: messages other than audio.
        audio_rate: audio that a client may send, in multiples of real time, over `audio_over`.
        resume: time for which the slot of a lost connection is kept.
        silent_warning, silent_lost: time without input until the client is notified, until its slot is freed.
        stalled: time for which a client may not read.
        stall: time for which a session driven by its own input waits for it, before it continues by the server's clock.
        ending: time for which sessions continue after a shutdown request.
        late_share: share of late ticks in the last minute above which no session is admitted.
    """

    session: float = 3600.0
    hello: float = 5.0
    hellos_per_minute: int = 10
    sessions_per_address: int = 2
    texts_per_second: int = 20
    audio_rate: float = 1.5
    audio_over: float = 2.0
    resume: float = 5.0
    silent_warning: float = 5.0
    silent_lost: float = 15.0
    stalled: float = 5.0
    stall: float = 1.0
    ending: float = 30.0
    late_share: float = 1e-4


class Flood(Exception):
    """A client exceeds a rate limit; the message is for the client."""


@define
class Meter:
    """Rate limits of one connection. Raises Flood from `text` and `sound`."""

    limits: Limits
    rate: int
    now: Callable[[], float] = time.monotonic
    _texts: deque[float] = field(factory=deque, init=False)
    _budget: float = field(init=False, default=0.0)
    _at: float | None = field(init=False, default=None)

    def text(self) -> None:
        """Count a message other than audio."""
        now = self.now()
        self._texts.append(now)
        while self._texts and self._texts[0] < now - 1:
            self._texts.popleft()
        if len(self._texts) > self.limits.texts_per_second:
            raise Flood(f"more than {self.limits.texts_per_second} messages in a second")

    def sound(self, samples: int) -> None:
        """Count `samples` of audio: a leaky bucket that drains in real time."""
        now = self.now()
        passed = 0.0 if self._at is None else now - self._at
        self._at = now
        self._budget = max(0.0, self._budget - passed * self.limits.audio_rate) + samples / self.rate
        if self._budget > self.limits.audio_over * self.limits.audio_rate:
            raise Flood(
                f"sound came faster than {self.limits.audio_rate:g} times real time for {self.limits.audio_over:g} s"
            )


@define
class HelloLimiter:
    """Rate limit of hellos by address. `allow` is False for an address with too many in the last minute."""

    limits: Limits
    now: Callable[[], float] = time.monotonic
    _hellos: dict[str, deque[float]] = field(factory=dict, init=False)

    def allow(self, address: str) -> bool:
        now = self.now()
        for known in [one for one, times in self._hellos.items() if times[-1] < now - 60]:
            del self._hellos[known]
        times = self._hellos.setdefault(address, deque())
        while times and times[0] < now - 60:
            times.popleft()
        if len(times) >= self.limits.hellos_per_minute:
            return False
        times.append(now)
        return True
