"""One WebSocket: hello, then sound and words both ways, until one of the two ends it."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any

from attrs import evolve
from starlette.websockets import WebSocket, WebSocketDisconnect

from accomp.core.serving import logs
from accomp.core.serving.frames import HEARD, BrokenFrame, Frame, decoded, encoded
from accomp.core.serving.limits import Flood, Meter
from accomp.core.serving.messages import BadMessage, Calibrate, Counts, Hello, Ping, Start, Stop, message_of
from accomp.core.serving.server import Server
from accomp.core.serving.session import Session

PROTOCOL = "accomp.1"
EVERY = 0.5
"""Seconds between two messages about the state."""
FAREWELL = 2.0
"""Seconds that a last message may take."""


class Closed(Exception):
    """The connection is to be closed: code, how the session ends, and why, in words for the client."""

    def __init__(self, code: int, how: str, why: str, **told: Any):
        super().__init__(why)
        self.code, self.how, self.why, self.told = code, how, why, told


class Connection:
    """Serves one WebSocket; `serve` returns when it is closed."""

    def __init__(self, server: Server, socket: WebSocket):
        self.server, self.socket = server, socket
        self.address = socket.client.host if socket.client else "?"
        self.session: Session | None = None
        self.meter: Meter | None = None
        self.progress = time.monotonic()

    async def serve(self) -> None:
        offered = self.socket.scope.get("subprotocols", [])
        await self.socket.accept(PROTOCOL if PROTOCOL in offered else None)
        how = "lost"
        try:
            self._admitted()
            session = await self._greeted()
            how = await self._talk(session)
        except Closed as closed:
            how = closed.how
            await self._close(closed)
        except WebSocketDisconnect:
            how = "lost"
        finally:
            await self._left(how)

    # --- hello

    def _admitted(self) -> None:
        headers = self.socket.headers
        if not self.server.door.serves(headers.get("host")):
            raise self._refusal(
                1008, "token", "this server does not answer to that host name; ask for it by its address"
            )
        if not self.server.door.admits(headers.get("origin"), headers.get("host")):
            raise self._refusal(
                1008, "token", "a page from elsewhere may not connect here (--allow-origin names those)"
            )

    def _refusal(self, code: int, reason: str, why: str, **told: Any) -> Closed:
        self.server.metrics.refused.labels(reason).inc()
        logs.event("refused", reason=reason, why=why)
        return Closed(code, "refused", why, type="refused", reason=reason, **told)

    async def _greeted(self) -> Session:
        server = self.server
        if not server.bell.rings(self.address):
            most = server.limits.hellos_per_minute
            raise self._refusal(1008, "limit", f"more than {most} connections in a minute; wait", retry_after=60)
        hello = await self._hello()
        if not server.door.knows(hello.token):
            raise self._refusal(1008, "token", "the token is not this server's; open the address that it printed")
        await self._prepared()
        if hello.resume and isinstance(session := server.sessions.get(hello.resume), Session):
            return self._resumed(session, hello)
        if server.mode == "jam":
            await self._end_lost()
        if (refusal := server.refusal()) is not None:
            raise self._refusal(1013, refusal["reason"], refusal["why"], retry_after=refusal["retry_after"],
                                slots=refusal["slots"])  # fmt: skip
        if server.count(self.address) >= server.limits.sessions_per_address:
            most = server.limits.sessions_per_address
            raise self._refusal(1008, "limit", f"{most} sessions come from this address already")
        session = Session(
            server, hello, self.address, _session_id(), secrets.token_urlsafe(18), asyncio.get_running_loop()
        )
        server.open_session(session)
        logs.event("session_opened", session=session.id, rate=hello.rate, frame=hello.frame, format=hello.format,
                   client=hello.client)  # fmt: skip
        self._take(session, hello)
        session.outbox.tell(server.welcome(session))
        return session

    async def _hello(self) -> Hello:
        try:
            text = await asyncio.wait_for(self._text(), self.server.limits.hello)
        except TimeoutError:
            raise self._refusal(1008, "limit", f"no hello within {self.server.limits.hello:g} s") from None
        try:
            hello = message_of(text)
        except BadMessage as error:
            raise self._refusal(1008, "token", str(error)) from None
        if not isinstance(hello, Hello):
            raise self._refusal(1008, "token", 'expected {"type": "hello", ...} first')
        return hello

    async def _text(self) -> str:
        message = await self.socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        return str(message.get("text") or "")

    async def _prepared(self) -> None:
        """Wait, with words, until the models are ready."""
        engine = self.server.engine
        while not engine.ready and engine.failure is None:
            await self.socket.send_json({"type": "state", "ready": False, "said": f"preparing: {engine.preparing}"})
            await asyncio.sleep(EVERY)

    async def _end_lost(self) -> None:
        """Where one musician plays alone, a page that is opened anew stands for the one that has gone."""
        for session in [one for one in self.server.sessions.values() if one.connection is None]:
            await session.end("lost", "another page was opened")

    def _resumed(self, session: Session, hello: Hello) -> Session:
        if hello.rate != session.hello.rate:
            raise self._refusal(1008, "path", "the session goes on at another rate than it began with; begin a new one")
        self.server.metrics.reconnects.inc()
        logs.event("resumed", session=session.id)
        self._take(session, hello)
        session.outbox.tell(self.server.welcome(session, resumed=True))
        return session

    def _take(self, session: Session, hello: Hello) -> None:
        session.hello = evolve(hello, token="")
        session.found(self)
        session.wake = asyncio.Event()
        session.wake.set()
        self.session, self.meter = session, Meter(self.server.limits, hello.rate)
        self.progress = time.monotonic()

    # --- talk

    async def _talk(self, session: Session) -> str:
        tasks = [asyncio.create_task(work(session)) for work in (self._receive, self._send, self._watch)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            if (error := task.exception()) is not None:
                raise error
        return session.closing[1] if session.closing else "lost"

    async def _receive(self, session: Session) -> None:
        assert self.meter is not None
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            try:
                if (sound := message.get("bytes")) is not None:
                    self._sound(session, sound)
                else:
                    self.meter.text()
                    await self._word(session, message.get("text") or "")
            except Flood as flood:
                raise Closed(1008, "limit", str(flood)) from None
            except BrokenFrame as broken:
                raise Closed(1003, "refused_frame", str(broken)) from None

    def _sound(self, session: Session, message: bytes) -> None:
        assert self.meter is not None
        frame = decoded(message, session.hello.format, session.hello.frame)
        self.meter.sound(len(frame.samples))
        metrics = self.server.metrics
        metrics.frames.labels("in").inc()
        metrics.bytes.labels("in").inc(len(message))
        if frame.kind == HEARD:
            session.heard(frame)
        else:
            session.probed(frame)

    async def _word(self, session: Session, text: str) -> None:
        try:
            message = message_of(text)
        except BadMessage as error:
            session.outbox.tell({"type": "problem", "what": "message", "why": str(error)})
            return
        match message:
            case None | Hello():
                return
            case Ping():
                session.outbox.tell({"type": "pong", "t": message.t})
            case Counts():
                session.count(message)
            case Calibrate():
                await session.calibrate(message)
            case Start():
                await self._start(session, message)
            case Stop():
                await session.end("stopped", "stopped")
            case _:
                await session.change(message)

    async def _start(self, session: Session, asked: Start) -> None:
        refusal = await session.start(asked)
        if refusal is None:
            logs.event("playing", session=session.id)
            return
        self.server.metrics.refused.labels(refusal["reason"]).inc()
        session.outbox.tell(refusal)

    async def _send(self, session: Session) -> None:
        metrics = self.server.metrics
        while True:
            await session.wake.wait()
            session.wake.clear()
            while (message := session.outbox.take()) is not None:
                self.progress = time.monotonic()
                if isinstance(message, Frame):
                    data = encoded(message, session.hello.format)
                    await self.socket.send_bytes(data)
                    metrics.frames.labels("out").inc()
                    metrics.bytes.labels("out").inc(len(data))
                else:
                    await self.socket.send_text(json.dumps(message))
            self.progress = 0.0
            if session.closing is not None:
                code, _, why = session.closing
                await self.socket.close(code, why[:120])
                return

    async def _watch(self, session: Session) -> None:
        """Tell how things are; end what lasts too long or does not read."""
        limits, told = self.server.limits, False
        while True:
            await asyncio.sleep(EVERY)
            now = time.monotonic()
            if self.progress and now - self.progress > limits.stalled:
                raise Closed(1008, "limit", f"nothing was read for {limits.stalled:g} s")
            if session.connection is not self:
                raise Closed(1008, "taken", "the session goes on in another connection")
            left = session.began + limits.session - now
            if left < 0:
                await session.end("limit", f"a session lasts {limits.session / 60:g} min at most")
                continue
            if left < 60 and not told:
                told = True
                session.outbox.tell({"type": "ending", "seconds": left, "why": "the session reaches its limit"})
            if self.server.engine.failure is not None:
                await session.end("error", "the server's model has failed; its log says why")
                continue
            session.outbox.tell(session.state())

    # --- the end

    async def _close(self, closed: Closed) -> None:
        """Say why and close; a client that does not read is cut off."""
        message = {"type": "ended", "files": [], **closed.told, "why": closed.why}

        async def farewell() -> None:
            await self.socket.send_text(json.dumps(message))
            await self.socket.close(closed.code, closed.why[:120])

        try:
            await asyncio.wait_for(farewell(), FAREWELL)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            transport = self.socket.scope.get("state", {}).get("transport")
            if transport is not None:
                transport.abort()

    async def _left(self, how: str) -> None:
        session = self.session
        if session is None or session.connection is not self:
            return
        session.connection = None
        if how == "lost" and session.live is not None:
            session.lose(self.server.limits.resume)
            return
        await session.end(how, "the connection was closed")


def _session_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
