"""What all connections of a server share: its models, who plays, who may, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from attrs import define, field

from accomp.core.clock import LatencyBudget
from accomp.core.serving import logs
from accomp.core.serving.limits import Doorbell, Limits
from accomp.core.serving.metrics import Metrics
from accomp.core.serving.playing.engine import Engine
from accomp.core.serving.playing.fitting import Fit, Path, fit
from accomp.core.serving.playing.live import LiveSession
from accomp.core.serving.playing.recording import Recorder
from accomp.core.serving.playing.runs import Followers, card
from accomp.core.serving.playing.sounding import Outbox
from accomp.core.serving.playing.stage import Stage
from accomp.core.serving.security import Door

FADE = 1.0
"""Seconds in which those who still play fall silent at the end."""
RETRY = 30
"""Seconds after which who was refused may try again."""


class Client(Protocol):
    """What a server knows of a session (session.py)."""

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
    """What is served, and by which rules.

    Attributes:
        mode: "jam" for one musician on this machine, whose input drives the ticks; "serve" for many.
        measured: name of a run -> its budget without a path.
        recorder: None where nothing is recorded.
        sessions: by the secret with which they go on.
        ending: since when the server is asked to end (time.monotonic); None while it is not. hurried: asked again.
        drained: no one new is admitted.
    """

    mode: str
    engine: Engine
    door: Door
    limits: Limits = field(factory=Limits)
    metrics: Metrics = field(factory=Metrics)
    recorder: Recorder | None = None
    followers: Followers = field(factory=lambda: Followers({}))
    measured: dict[str, LatencyBudget] = field(factory=dict)
    sessions: dict[str, Client] = field(factory=dict)
    bell: Doorbell = field(init=False)
    ending: float | None = None
    drained: bool = False
    hurried: bool = False

    def __attrs_post_init__(self) -> None:
        self.bell = Doorbell(self.limits)

    @property
    def clocked(self) -> bool:
        return self.mode == "serve"

    @property
    def stages(self) -> Mapping[str, Stage]:
        return self.engine.stages

    @property
    def slots(self) -> dict[str, int]:
        """Free and all."""
        if self.mode == "jam":
            return {"free": int(not any(session.live for session in self.sessions.values())), "all": 1}
        stages = list(self.stages.values())
        free = 0 if self.ending is not None or self.drained else sum(max(0, stage.free) for stage in stages)
        return {"free": free, "all": sum(len(stage.slots.places) for stage in stages)}

    def fits(self, path: Path) -> dict[str, Fit]:
        """How each run fits a client's path."""
        return {name: fit(name, budget, path, clocked=self.clocked) for name, budget in self.measured.items()}

    def refusal(self) -> dict[str, Any] | None:
        """Why nobody new may come in now; None where somebody may."""
        if self.ending is not None or self.drained:
            return self._refused("late", "the server is about to end; try again in a minute", 60)
        if self.engine.failure is not None:
            return self._refused("error", "the server's model has failed; its log says why", RETRY)
        slots = self.slots
        if not slots["free"]:
            who = "somebody plays here already" if slots["all"] == 1 else f"all {slots['all']} places are taken"
            return self._refused("full", f"{who}; try again in {RETRY} s", RETRY)
        if self.clocked and not all(stage.ticks.in_time(self.limits.late_share) for stage in self.stages.values()):
            return self._refused("late", "the server was late in the last minute; try again in a minute", 60)
        return None

    def _refused(self, reason: str, why: str, retry: int) -> dict[str, Any]:
        return {"type": "refused", "reason": reason, "why": why, "retry_after": retry, "slots": self.slots}

    def welcome(self, session: Client, *, resumed: bool = False) -> dict[str, Any]:
        """What a client is told first."""
        return {
            "type": "welcome",
            "session": session.id,
            "resume": session.secret,
            "resumed": resumed,
            "mode": self.mode,
            "record": self.recorder is not None,
            "models": [card(stage, self.followers) for stage in self.stages.values()],
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
        """It has ended: "stopped", "lost", "limit", "refused_frame", "error" or "shutdown"."""
        if self.sessions.pop(session.secret, None) is None:
            return
        self.metrics.active.set(len(self.sessions))
        self.metrics.sessions.labels(how).inc()
        self.metrics.session_seconds.observe(time.monotonic() - session.began)
        logs.event("session_ended", session=session.id, how=how, seconds=round(time.monotonic() - session.began, 1))

    def count(self, address: str) -> int:
        """Sessions of an address."""
        return sum(session.address == address for session in self.sessions.values())

    def begin_ending(self) -> None:
        """No one new; those who play are told."""
        if self.ending is None:
            self.ending = time.monotonic()
            self.metrics.admission.set(0)
            for session in self.sessions.values():
                session.outbox.tell(
                    {"type": "ending", "seconds": self.limits.ending, "why": "the server ends; what you play is kept"}
                )

    async def end(self) -> None:
        """Once nobody plays any more, or time is over: end all sessions, then the thread."""
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
