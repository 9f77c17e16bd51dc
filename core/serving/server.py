"""State shared by all connections of a server: models, sessions, admission and shutdown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from attrs import define, field

from accomp.core.clock import LatencyBudget
from accomp.core.serving import logs
from accomp.core.serving.limits import HelloLimiter, Limits
from accomp.core.serving.machine.audio import MachineAudio
from accomp.core.serving.machine.clock import MachineClock
from accomp.core.serving.metrics import Metrics
from accomp.core.serving.playing.engine import Engine
from accomp.core.serving.playing.fitting import Fit, Path, fit
from accomp.core.serving.playing.live import LiveSession
from accomp.core.serving.playing.output_stream import Outbox
from accomp.core.serving.playing.recording import Recorder
from accomp.core.serving.playing.runs import Followers, card
from accomp.core.serving.playing.served_run import ServedRun
from accomp.core.serving.security import AccessControl

FADE = 1.0
"""Seconds of the fade-out of playing sessions at the end."""
RETRY = 30
"""Seconds after which a refused client may retry."""


class Client(Protocol):
    """The server's view of a session (session.py)."""

    id: str
    secret: str
    address: str
    began: float
    live: LiveSession | None
    outbox: Outbox
    connection: object | None

    async def end(self, how: str, why: str) -> None: ...


@define(eq=False, repr=False)
class Server:
    """Runs, sessions and rules of a server.

    Attributes:
        mode: "jam" for one musician on this machine, whose input drives the ticks; "serve" for many.
        measured: name of a run -> its budget without a path.
        recorder: None without recording.
        sessions: by the secret for resuming them.
        ending: time of the shutdown request (time.monotonic); None before. hurried: requested twice.
        drained: no new sessions are admitted.
        replica: of several servers behind one address, this one's name; "" for a server alone. A client's socket is
            then in another process, which hides what was read, so that clients confirm it.
        device: a sound device of this machine, in place of the page's; None otherwise. clock: its MIDI clock, if any.
    """

    mode: str
    engine: Engine
    access: AccessControl
    limits: Limits = field(factory=Limits)
    metrics: Metrics = field(factory=Metrics)
    recorder: Recorder | None = None
    followers: Followers = field(factory=lambda: Followers({}))
    measured: dict[str, LatencyBudget] = field(factory=dict)
    sessions: dict[str, Client] = field(factory=dict)
    hello_limiter: HelloLimiter = field(init=False)
    ending: float | None = None
    drained: bool = False
    replica: str = ""
    device: MachineAudio | None = None
    clock: MachineClock | None = None
    hurried: bool = False

    def __attrs_post_init__(self) -> None:
        self.hello_limiter = HelloLimiter(self.limits)

    @property
    def clocked(self) -> bool:
        return self.mode == "serve"

    @property
    def runs(self) -> Mapping[str, ServedRun]:
        return self.engine.runs

    @property
    def slots(self) -> dict[str, int]:
        """Number of free slots and of all."""
        if self.mode == "jam":
            return {"free": int(not any(session.live for session in self.sessions.values())), "all": 1}
        runs = list(self.runs.values())
        free = 0 if self.ending is not None or self.drained else sum(max(0, run.free) for run in runs)
        return {"free": free, "all": sum(len(run.slots.places) for run in runs)}

    def fits(self, path: Path) -> dict[str, Fit]:
        """Fit of each run to a client's path."""
        return {name: fit(name, budget, path, clocked=self.clocked) for name, budget in self.measured.items()}

    def refusal(self) -> dict[str, Any] | None:
        """Reason for which no new session is admitted now; None if one is."""
        if self.ending is not None or self.drained:
            return self._refused("late", "the server is about to end; try again in a minute", 60)
        if self.engine.failure is not None:
            return self._refused("error", "the server's model has failed; its log says why", RETRY)
        slots = self.slots
        if not slots["free"]:
            reason = "a session plays here already" if slots["all"] == 1 else f"all {slots['all']} places are taken"
            return self._refused("full", f"{reason}; try again in {RETRY} s", RETRY)
        if self.clocked and not all(run.ticks.in_time(self.limits.late_share) for run in self.runs.values()):
            return self._refused("late", "the server was late in the last minute; try again in a minute", 60)
        return None

    def _refused(self, reason: str, why: str, retry: int) -> dict[str, Any]:
        return {"type": "refused", "reason": reason, "why": why, "retry_after": retry, "slots": self.slots}

    def welcome(self, session: Client, *, resumed: bool = False, why: str = "") -> dict[str, Any]:
        """First message to a client. why: reason for which the session that it asked for is not resumed."""
        return {
            "type": "welcome",
            **({"replica": self.replica} if self.replica else {}),
            **({"why": why} if why else {}),
            "session": session.id,
            "resume": session.secret,
            "resumed": resumed,
            "mode": self.mode,
            "record": self.recorder is not None,
            "models": [card(run, self.followers) for run in self.runs.values()],
            "limits": {
                "session_s": self.limits.session,
                "resume_s": self.limits.resume,
                "texts_per_second": self.limits.texts_per_second,
            },
            "slots": self.slots,
        }

    def open_session(self, session: Client) -> None:
        self.sessions[session.secret] = session
        self.metrics.active.set(len(self.sessions))

    def close_session(self, session: Client, how: str) -> None:
        """Remove an ended session; how: "stopped", "lost", "limit", "refused_frame", "error" or "shutdown"."""
        if self.sessions.pop(session.secret, None) is None:
            return
        self.metrics.active.set(len(self.sessions))
        self.metrics.sessions.labels(how).inc()
        self.metrics.session_seconds.observe(time.monotonic() - session.began)
        logs.event("session_ended", session=session.id, how=how, seconds=round(time.monotonic() - session.began, 1))

    def count(self, address: str) -> int:
        """Number of sessions of an address."""
        return sum(session.address == address for session in self.sessions.values())

    def begin_ending(self) -> None:
        """Admit no more sessions and notify the clients."""
        if self.ending is None:
            self.ending = time.monotonic()
            self.metrics.admission.set(0)
            for session in self.sessions.values():
                session.outbox.send(
                    {"type": "ending", "seconds": self.limits.ending, "why": "the server ends; what you play is kept"}
                )

    async def end(self) -> None:
        """Wait until no session plays or the time is over, then end all sessions and the thread."""
        self.begin_ending()
        assert self.ending is not None
        while any(session.live for session in self.sessions.values()):
            if self.hurried or time.monotonic() > self.ending + self.limits.ending:
                break
            await asyncio.sleep(0.1)
        playing = [session.live for session in self.sessions.values() if session.live]
        for live in playing:
            self.engine.do(partial(live.fade, FADE))
        if playing and not self.hurried:
            await asyncio.sleep(FADE)
        for session in list(self.sessions.values()):
            await session.end("shutdown", "the server ends")
        await asyncio.sleep(0.1)
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.flush)
        self.engine.close()
