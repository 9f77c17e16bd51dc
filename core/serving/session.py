"""A client's session as the sockets' thread sees it; it outlives its connection for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
from attrs import define, field

from accomp.core.serving.frames import Frame
from accomp.core.serving.messages import FOLLOW, OFF, Calibrate, Counts, Hello, SetChart, SetMetronome, Start
from accomp.core.serving.playing.beats import Unplayable, follower
from accomp.core.serving.playing.calibration import LONGEST, Found, found, probe
from accomp.core.serving.playing.fitting import Fit, Path, best
from accomp.core.serving.playing.hearing import Hearing, Inbox
from accomp.core.serving.playing.live import LiveSession
from accomp.core.serving.playing.resampling import Drift
from accomp.core.serving.playing.sounding import Outbox, Sounding
from accomp.core.serving.playing.stage import Stage
from accomp.core.serving.server import Server
from accomp.core.streaming.followed_timeline import FollowedTimeline

LONGEST_PROBED = 20.0
"""Seconds of what is heard during calibration that are kept."""


@define(eq=False, repr=False)
class Session:
    """A client, from its welcome to its end, over one connection or several.

    Attributes:
        id, secret: for people and logs; for the client alone.
        live: the model's side; None until it plays, and after.
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
    _probed: list[Frame] = field(factory=list)
    _ended: bool = False
    _dropped: int = 0
    _lost: int = 0
    _given_up: asyncio.TimerHandle | None = None

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(self.hello.rate, self.ring)
        self.inbox = Inbox(self.hello.rate)
        self.path = Path(self.hello.rate, self.hello.frame / self.hello.rate)

    def ring(self) -> None:
        """Wake the sender, from any thread."""
        self.soon(self.wake.set)

    def soon(self, work: Callable[[], object]) -> None:
        """Do something in the sockets' thread."""
        try:
            self.loop.call_soon_threadsafe(work)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            return

    def lose(self, seconds: float) -> None:
        """Its connection is gone; it ends unless another one comes in time."""
        self._given_up = self.loop.call_later(seconds, lambda: self._dropped_out("lost", "the connection was lost"))

    def found(self, connection: object) -> None:
        """It goes on in this connection."""
        self.connection = connection
        if self._given_up is not None:
            self._given_up.cancel()
            self._given_up = None

    # --- sound

    def heard(self, frame: Frame) -> None:
        """A frame for the model."""
        if self.live is not None and self.inbox.put(frame) and not self.server.clocked:
            self.server.engine.wake()

    def probed(self, frame: Frame) -> None:
        """A frame that was heard during calibration; the oldest go."""
        self._probed.append(frame)
        while sum(len(one.samples) for one in self._probed) > LONGEST_PROBED * self.hello.rate:
            self._probed.pop(0)

    # --- calibration

    async def calibrate(self, asked: Calibrate) -> None:
        """Measure, or take what is assumed, and say which run fits."""
        rate = self.hello.rate
        if asked.place is None:
            assert asked.assumed_ms is not None
            result = Found(True, asked.assumed_ms / 1000)
        else:
            frames, self._probed = self._probed, []
            result = await asyncio.to_thread(_measured, frames, asked.place, rate)
        if not result.ok:
            self.outbox.tell({"type": "measured", "ok": False, "why": result.why, "try_again": True})
            return
        self.path = Path(rate, asked.frame_ms / 1000, result.first, asked.rtt_p99 / 1000)
        chosen = best(self.server.fits(self.path))
        self.outbox.tell(
            {
                "type": "measured", "ok": True, "first_ms": round(1000 * result.first, 3),
                "agree_ms": round(1000 * result.agree, 3), "snr_db": round(result.snr_db, 1), "why": result.why,
                "model": chosen.name, "fits": chosen.fits, "verdict": chosen.budget.verdict(), **chosen.as_record(),
                **({"assumed": True} if asked.place is None else {}),
            }
        )  # fmt: skip

    # --- playing

    async def start(self, asked: Start) -> dict[str, Any] | None:
        """Begin to play, or the refusal."""
        if self.live is not None:
            return _refused("path", "this session plays already; stop it first")
        if (refusal := self.server.refusal()) is not None:
            return refusal
        path = Path(self.path.rate, self.path.frame, asked.first_ms / 1000, self.path.rtt)
        fits = self.server.fits(path)
        if asked.model is not None and asked.model not in fits:
            return _refused("path", f"no model {asked.model!r}; there are {', '.join(fits)}")
        fit = fits[asked.model] if asked.model is not None else best(fits)
        stage = self.server.stages[fit.name]
        if not fit.fits and not asked.force:
            return {**_refused("path", fit.budget.verdict()), "nearest": fit.nearest(), **fit.as_record()}
        if stage.instruments and asked.instrument is not None and asked.instrument not in stage.instruments:
            return _refused("path", f"no instrument {asked.instrument!r}; there are {', '.join(stage.instruments)}")
        if asked.chart not in (OFF, FOLLOW) and asked.metronome == OFF:
            return _refused("path", "a chart that is typed needs a metronome, to say when its chords come")
        names = [name for name, value in (("metronome", asked.metronome), ("chart", asked.chart)) if value == FOLLOW]
        self._play(asked, fit, path, await self._followers(stage, names))
        return None

    async def _followers(self, stage: Stage, names: Iterable[str]) -> dict[str, FollowedTimeline]:
        """What follows these timelines, as far as there is something; made where no tick waits for it."""
        made: dict[str, FollowedTimeline] = {}
        for name in names:
            with suppress(Unplayable):  # which is told when it is asked for
                made[name] = await asyncio.to_thread(follower, stage.player, stage.registry, name)
        return made

    def _play(self, asked: Start, fit: Fit, path: Path, followers: dict[str, FollowedTimeline]) -> None:
        server, rate = self.server, self.hello.rate
        stage, space = server.stages[fit.name], server.stages[fit.name].slots.space
        self.inbox = Inbox(rate)
        self.live = live = LiveSession(
            self.id, asked, self.inbox, self.outbox,
            Hearing(rate, space.sample_rate, varies=server.clocked),
            Sounding(space.sample_rate, rate, varies=server.clocked),
            lambda how, why: self.soon(lambda: self._dropped_out(how, why)),
            Drift() if server.clocked else None,
            fits=fit.as_record(), spare=followers,
        )  # fmt: skip
        if asked.record and server.recorder is not None:
            try:
                live.recording = server.recorder.begin(self.id, space.sample_rate, self._manifest(asked, fit, path))
            except OSError as error:
                self.outbox.tell({"type": "problem", "what": "record", "why": f"nothing is recorded: {error}"})
        server.engine.do(lambda: stage.enter(live))

    def _manifest(self, asked: Start, fit: Fit, path: Path) -> dict[str, Any]:
        player = self.server.stages[fit.name].player
        return {
            "run": fit.name, "step": player.step, "weights": player.weights, "sampler": type(player.sampler).__name__,
            "instrument": asked.instrument, "temperature": asked.temperature, "seed": asked.seed,
            "metronome": str(asked.metronome), "chart": asked.chart, "page_rate": path.rate,
            "first_ms": round(1000 * path.first, 3), "rtt_p99_ms": round(1000 * path.rtt, 3),
        }  # fmt: skip

    async def change(self, message: Any) -> None:
        """Something that changes while playing."""
        live = self.live
        stage = self.server.engine.find(live) if live is not None else None
        if live is None or stage is None:
            self.outbox.tell({"type": "problem", "what": "session", "why": "nothing is played yet; start first"})
            return
        if isinstance(message, SetMetronome | SetChart) and message.value == FOLLOW:
            name = "metronome" if isinstance(message, SetMetronome) else "chart"
            live.spare = await self._followers(stage, [name])
        self.server.engine.do(lambda: stage.change(live, message))

    def count(self, counts: Counts) -> None:
        """What the page has counted."""
        before, metrics = self.counts, self.server.metrics
        metrics.chunks_late.inc(max(0.0, counts.late - before.late))
        metrics.missing.inc(max(0.0, counts.missing - before.missing))
        metrics.gaps.inc(max(0.0, counts.gaps - before.gaps))
        if counts.margin_min_ms is not None:
            metrics.client_margin.observe(counts.margin_min_ms / 1000)
        if counts.rtt_ms is not None:
            metrics.rtt.observe(counts.rtt_ms / 1000)
        self.counts = counts
        live = self.live
        if counts.ranges and live is not None and live.recording is not None and live.hearing.first is not None:
            hearing = live.hearing
            live.recording.missed(
                [
                    (round(hearing.sample_at(first)), round(samples * hearing.to / hearing.rate))
                    for first, samples in counts.ranges
                ]
            )

    def state(self) -> dict[str, Any]:
        """How things are."""
        server, live = self.server, self.live
        stage = server.engine.find(live) if live is not None else None
        stage = stage or next(iter(server.stages.values()))
        p50, p99 = stage.ticks.quantiles(0.5, 0.99)
        told: dict[str, Any] = {
            "type": "state", "tick_ms": {"p50": round(1000 * p50, 2), "p99": round(1000 * p99, 2)},
            "load": round(stage.ticks.load, 3), "lost_input_ms": 0.0, "drift_ppm": 0.0, "ahead_ms": 0.0,
            "slots_free": server.slots["free"], "bpm": None, "chord": None, "said": "",
        }  # fmt: skip
        if live is None:
            return told
        lost = live.hearing.lost + self.inbox.lost
        self._metered(live, lost)
        told["lost_input_ms"] = round(1000 * lost / self.hello.rate, 1)
        told["drift_ppm"] = round(1e6 * (live.drift.share if live.drift else 0.0), 1)
        told["ahead_ms"] = round(1000 * live.margin, 1)
        if live.beats is not None and live.voices:
            try:
                place = round(live.hearing.place_at(live.hearing.taken))
                told["bpm"], told["chord"] = live.beats.now(place, live.voices[0].following)
            except (IndexError, RuntimeError):  # it changes just now
                pass
        told["said"] = live.recording.failure if live.recording is not None else ""
        return told

    def _metered(self, live: LiveSession, lost: int) -> None:
        metrics = self.server.metrics
        metrics.input_lost.inc(max(0, lost - self._lost))
        metrics.output_dropped.inc(max(0, self.outbox.dropped - self._dropped))
        self._lost, self._dropped = lost, self.outbox.dropped
        if live.drift is not None:
            metrics.drift.observe(live.drift.share)
            metrics.queue.labels("in").observe(max(0.0, live.hearing.available / live.hearing.to))

    # --- the end

    def _dropped_out(self, how: str, why: str) -> None:
        """The model's side has ended it."""
        self.loop.create_task(self.end(how, why))

    async def end(self, how: str, why: str) -> None:
        """End it: the slot is free, files are whole, the client is told and closed."""
        if self._ended:
            return
        self._ended = True
        if self._given_up is not None:
            self._given_up.cancel()
        live, self.live = self.live, None
        files: list[dict[str, Any]] = []
        if live is not None:
            await self.server.engine.let_go(live)
            if live.recording is not None:
                files = await self._files(live)
        self.outbox.silence()
        self.outbox.tell({"type": "ended", "why": why, "files": files})
        self.closing = (_CODES.get(how, 1000), how, why)
        self.server.close_session(self, how)
        self.ring()

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
        return [{**file, "url": f"/v1/recordings/{self.id}/{file['name']}"} for file in files]


_CODES = {"stopped": 1000, "lost": 1000, "limit": 1008, "refused_frame": 1003, "error": 1011, "shutdown": 1012}


def _measured(frames: list[Frame], place: int, rate: int) -> Found:
    """What was heard from a place on, holes as silence, until the probe must have come back -> what was found."""
    heard = np.zeros(len(probe(rate)) + round(LONGEST * rate), np.float32)
    end = 0
    for frame in frames:
        first, last = frame.place - place, frame.place - place + len(frame.samples)
        begin, stop = max(0, first), min(len(heard), last)
        if begin < stop:
            heard[begin:stop] = frame.samples[begin - first : stop - first]
            end = max(end, stop)
    return found(heard[:end], rate)


def _refused(reason: str, why: str) -> dict[str, Any]:
    return {"type": "refused", "reason": reason, "why": why, "nearest": None}
