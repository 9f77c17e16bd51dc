"""A client's session in the event loop's thread; it outlives its connection for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from attrs import define, evolve, field

from accomp.core.console import say
from accomp.core.serving.machine.outbox import MachineOutbox
from accomp.core.serving.playing.calibration import Loopback, measure_frames
from accomp.core.serving.playing.fitting import Fit, Path, best
from accomp.core.serving.playing.input_stream import Inbox, InputStream
from accomp.core.serving.playing.live import LiveSession
from accomp.core.serving.playing.output_stream import Outbox, OutputStream
from accomp.core.serving.playing.recording import REPORT, manifest_of
from accomp.core.serving.playing.resampling import DriftControl
from accomp.core.serving.playing.served_run import ServedRun
from accomp.core.serving.playing.session_timelines import Unplayable, follower
from accomp.core.serving.protocol.frames import Frame
from accomp.core.serving.protocol.messages import (
    FOLLOW,
    OFF,
    Calibrate,
    Counts,
    Hello,
    Machine,
    SetChart,
    SetMetronome,
    Start,
)
from accomp.core.serving.server import Server
from accomp.core.serving.session_state import state_of
from accomp.core.streaming.followed_timeline import FollowedTimeline

LONGEST_PROBED = 20.0
"""Seconds of input that are kept during calibration."""


@define(eq=False, repr=False)
class Session:
    """A client, from its welcome to its end, over one connection or several.

    Attributes:
        id, secret: for people and logs; for the client alone.
        live: the model's side; None before and after playing.
        closing: (code, how, why) with which its connection is to be closed.
    """

    server: Server
    hello: Hello
    address: str
    id: str
    secret: str
    loop: asyncio.AbstractEventLoop
    outbox: Outbox = field(init=False)
    wake: asyncio.Event = field(factory=asyncio.Event)
    inbox: Inbox = field(init=False)
    live: LiveSession | None = None
    path: Path = field(init=False)
    began: float = field(factory=time.monotonic)
    connection: object | None = None
    closing: tuple[int, str, str] | None = None
    counts: Counts = field(factory=Counts)
    _probe_frames: list[Frame] = field(factory=list)
    _ended: bool = False
    _dropped: int = 0
    _lost: int = 0
    _timeout: asyncio.TimerHandle | None = None

    def __attrs_post_init__(self) -> None:
        device = self.server.device
        if device is None:
            self.outbox = Outbox(self.hello.rate, self.wake_sender)
        else:
            self.outbox = MachineOutbox(device, self.wake_sender)
        self.inbox = Inbox(self.hello.rate)
        self.path = Path(self.hello.rate, self.hello.frame / self.hello.rate)

    def wake_sender(self) -> None:
        """Wake the sender, from any thread."""
        self.soon(self.wake.set)

    def soon(self, work: Callable[[], object]) -> None:
        """Call `work` in the event loop's thread."""
        try:
            self.loop.call_soon_threadsafe(work)
        except RuntimeError:  # the loop is closed, all clients are gone
            return

    def wait_reconnect(self, seconds: float) -> None:
        """Start the timeout of a lost connection."""
        self._timeout = self.loop.call_later(seconds, lambda: self._end_soon("lost", "the connection was lost"))

    def reconnect(self, connection: object) -> None:
        """Continue in this connection."""
        self.connection = connection
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    # --- sound

    def add_input(self, frame: Frame) -> None:
        """Queue an input frame for the model."""
        if self.live is not None and self.inbox.put(frame) and not self.server.clocked:
            self.server.engine.wake()

    def add_probe(self, frame: Frame) -> None:
        """Keep an input frame of the calibration; the oldest are dropped."""
        self._probe_frames.append(frame)
        while sum(len(one.samples) for one in self._probe_frames) > LONGEST_PROBED * self.hello.rate:
            self._probe_frames.pop(0)

    # --- calibration

    async def calibrate(self, request: Calibrate) -> None:
        """Measure, or use an assumed value, and report the run that fits."""
        rate = self.hello.rate
        device = self.server.device
        if request.device:
            if device is None:
                result = Loopback(False, why="the server plays through no sound device (accomp jam --device)")
            else:
                result = await asyncio.to_thread(device.measure)
        elif request.place is None:
            assert request.assumed_ms is not None
            result = Loopback(True, request.assumed_ms / 1000)
        else:
            frames, self._probe_frames = self._probe_frames, []
            result = await asyncio.to_thread(measure_frames, frames, request.place, rate)
        if not result.ok:
            self.outbox.send({"type": "measured", "ok": False, "why": result.why, "try_again": True})
            return
        rtt = 0.0 if device is not None else request.rtt_p99 / 1000
        block = request.block_ms / 1000 if device is None else device.block / device.rate
        self.path = Path(rate, request.frame_ms / 1000, result.first, rtt, block)
        chosen = best(self.server.fits(self.path))
        self.outbox.send(
            {
                "type": "measured", "ok": True, "first_ms": round(1000 * result.first, 3),
                "agree_ms": round(1000 * result.agree, 3), "snr_db": round(result.snr_db, 1), "why": result.why,
                "model": chosen.name, "fits": chosen.fits, "verdict": chosen.budget.verdict(), **chosen.as_record(),
                **({"assumed": True} if request.place is None and not request.device else {}),
            }
        )  # fmt: skip

    # --- playing

    async def start(self, request: Start) -> dict[str, Any] | None:
        """Start to play; returns a refusal, if any."""
        if self.live is not None:
            return _refused("path", "this session plays already; stop it first")
        if (refusal := self.server.refusal()) is not None:
            return refusal
        path = evolve(self.path, first=request.first_ms / 1000)
        fits = self.server.fits(path)
        if request.model is not None and request.model not in fits:
            return _refused("path", f"no model {request.model!r}; there are {', '.join(fits)}")
        fit = fits[request.model] if request.model is not None else best(fits)
        run = self.server.runs[fit.name]
        if not fit.fits and not request.force:
            return {**_refused("path", fit.budget.verdict()), "nearest": fit.nearest(), **fit.as_record()}
        if run.instruments and request.instrument is not None:
            try:
                request = evolve(request, instrument=run.voices.instrument(request.instrument))
            except ValueError as error:
                return _refused("path", str(error))
        if request.chart not in (OFF, FOLLOW) and request.metronome == OFF:
            return _refused("path", "a chart that is typed needs a metronome, to say when its chords come")
        self._play(request, fit, path, await self._followers(run, request.followed))
        return None

    async def _followers(self, run: ServedRun, names: Iterable[str]) -> dict[str, FollowedTimeline]:
        """Make the available followers of these timelines, in a thread, so that no tick waits."""
        sources: dict[str, FollowedTimeline] = {}
        for name in names:
            with suppress(Unplayable):  # reported when the timeline is set
                sources[name] = await asyncio.to_thread(follower, run.player, run.registry, name)
        return sources

    def _play(self, request: Start, fit: Fit, path: Path, followers: dict[str, FollowedTimeline]) -> None:
        server, rate, run = self.server, self.hello.rate, self.server.runs[fit.name]
        space = run.slots.space
        self.inbox = Inbox(rate)
        self.live = live = LiveSession(
            self.id, request, self.inbox, self.outbox,
            InputStream(rate, space.sample_rate, varies=server.clocked),
            OutputStream(space.sample_rate, rate, varies=server.clocked),
            lambda how, why: self.soon(lambda: self._end_soon(how, why)),
            DriftControl() if server.clocked else None,
            fits=fit.as_record(), spare=followers,
        )  # fmt: skip
        if request.record and server.recorder is not None:
            try:
                live.recording = server.recorder.begin(
                    self.id, space.sample_rate, manifest_of(fit.name, run.player, request, path)
                )
            except OSError as error:
                self.outbox.send({"type": "problem", "what": "record", "why": f"nothing is recorded: {error}"})
        server.engine.do(lambda: run.enter(live))
        if server.device is not None:
            chunk = round(run.slots.hop * rate / space.sample_rate)
            server.device.begin(self.add_input, chunk=chunk, first=path.first)

    def set_machine(self, wish: Machine) -> None:
        """Set the server's sound device, if there is one and no other session plays through it."""
        device = self.server.device
        if device is None or (self.live is None and device.in_use):
            return
        device.apply(wish)

    async def change(self, message: Any) -> None:
        """Apply a change while playing."""
        live = self.live
        run = self.server.engine.find(live) if live is not None else None
        if live is None or run is None:
            self.outbox.send({"type": "problem", "what": "session", "why": "nothing is played yet; start first"})
            return
        if isinstance(message, SetMetronome | SetChart) and message.value == FOLLOW:
            name = "metronome" if isinstance(message, SetMetronome) else "chart"
            live.spare = await self._followers(run, [name])
        self.server.engine.do(lambda: run.change(live, message))

    def count(self, counts: Counts) -> None:
        """Record the page's counters."""
        self.server.metrics.count(counts, self.counts)
        self.counts = counts
        if self.live is not None:
            self.live.record_counts(counts)

    def state(self) -> dict[str, Any]:
        """Current state, for the client."""
        lost = 0
        if self.live is not None:
            lost = self.live.input.lost + self.inbox.lost
            self._update_metrics(self.live, lost)
        return state_of(self.server, self.live, lost / self.hello.rate)

    def _update_metrics(self, live: LiveSession, lost: int) -> None:
        metrics = self.server.metrics
        metrics.input_lost.inc(max(0, lost - self._lost))
        metrics.output_dropped.inc(max(0, self.outbox.dropped - self._dropped))
        self._lost, self._dropped = lost, self.outbox.dropped
        if live.drift is not None:
            metrics.drift.observe(live.drift.share)
            metrics.queue.labels("in").observe(max(0.0, live.input.available / live.input.to))

    # --- the end

    def _end_soon(self, how: str, why: str) -> None:
        """Handle an end that the model's side has initiated."""
        self.loop.create_task(self.end(how, why))

    async def end(self, how: str, why: str) -> None:
        """End it: free the slot, complete the files, notify and disconnect the client."""
        if self._ended:
            return
        self._ended = True
        if self._timeout is not None:
            self._timeout.cancel()
        live, self.live = self.live, None
        files: list[dict[str, Any]] = []
        if live is not None:
            if self.server.device is not None:
                self.server.device.end()
            await self.server.engine.release(live)
            if live.recording is not None:
                files = await self._files(live)
        self.outbox.clear_audio()
        self.outbox.send({"type": "ended", "why": why, "files": files})
        self.closing = (_CODES.get(how, 1000), how, why)
        self.server.close_session(self, how)
        self.wake_sender()

    async def _files(self, live: LiveSession) -> list[dict[str, Any]]:
        done: asyncio.Future[list[dict[str, Any]]] = self.loop.create_future()
        recording = live.recording
        assert recording is not None

        def written(files: list[dict[str, Any]]) -> None:
            self.soon(lambda: None if done.done() else done.set_result(files))

        recording.note(counts={"late": self.counts.late, "missing": self.counts.missing, "gaps": self.counts.gaps})
        recording.end(written)
        try:
            files = await asyncio.wait_for(done, 60)
        except TimeoutError:
            return []
        if self.server.mode == "jam":
            say(f"recorded: {recording.folder / REPORT}")
        where = f"?replica={self.server.replica}" if self.server.replica else ""
        return [{**file, "url": f"/v1/recordings/{self.id}/{file['name']}{where}"} for file in files]


_CODES = {"stopped": 1000, "lost": 1000, "limit": 1008, "refused_frame": 1003, "error": 1011, "shutdown": 1012}


def _refused(reason: str, why: str) -> dict[str, Any]:
    return {"type": "refused", "reason": reason, "why": why, "nearest": None}
