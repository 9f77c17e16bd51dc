"""One WebSocket connection: hello, then audio and messages both ways, until either side ends it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque

from attrs import evolve
from starlette.websockets import WebSocket, WebSocketDisconnect

from accomp.core.serving import logs
from accomp.core.serving.handshake import STATE_INTERVAL, Closed, Handshake
from accomp.core.serving.limits import Flood, Meter
from accomp.core.serving.protocol.frames import HEARD, BrokenFrame, Frame, decode, encode
from accomp.core.serving.protocol.message_parsing import BadMessage, message_of
from accomp.core.serving.protocol.messages import Calibrate, Counts, Hello, Machine, Ping, Start, Stop
from accomp.core.serving.server import Server
from accomp.core.serving.session import Session

PROTOCOL = "accomp.1"
CLOSE_TIMEOUT = 2.0
"""Timeout of a last message in seconds."""


class Connection:
    """Serves one WebSocket; `serve` returns when it is closed."""

    def __init__(self, server: Server, socket: WebSocket):
        self.server, self.socket = server, socket
        self.address = socket.client.host if socket.client else "?"
        self.session: Session | None = None
        self.meter: Meter | None = None
        self.progress = time.monotonic()
        self.stated = 0
        self.unread: deque[tuple[int, float]] = deque()  # number and time of state messages not confirmed yet

    async def serve(self) -> None:
        offered = self.socket.scope.get("subprotocols", [])
        await self.socket.accept(PROTOCOL if PROTOCOL in offered else None)
        how = "lost"
        try:
            session, hello, welcome = await Handshake(self.server, self.socket, self.address).perform()
            self._attach(session, hello)
            session.outbox.send(welcome)
            how = await self._run(session)
        except Closed as closed:
            how = closed.how
            await self._close(closed)
        except WebSocketDisconnect:
            how = "lost"
        finally:
            await self._disconnected(how)

    def _attach(self, session: Session, hello: Hello) -> None:
        session.hello = evolve(hello, token="")
        session.reconnect(self)
        session.wake = asyncio.Event()
        session.wake.set()
        self.session, self.meter = session, Meter(self.server.limits, hello.rate)
        self.progress = time.monotonic()

    # --- talk

    async def _run(self, session: Session) -> str:
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
                    self._audio_message(session, sound)
                else:
                    self.meter.text()
                    await self._text_message(session, message.get("text") or "")
            except Flood as flood:
                raise Closed(1008, "limit", str(flood)) from None
            except BrokenFrame as broken:
                raise Closed(1003, "refused_frame", str(broken)) from None

    def _audio_message(self, session: Session, message: bytes) -> None:
        assert self.meter is not None
        frame = decode(message, session.hello.format, session.hello.frame)
        self.meter.sound(len(frame.samples))
        metrics = self.server.metrics
        metrics.frames.labels("in").inc()
        metrics.bytes.labels("in").inc(len(message))
        if frame.kind == HEARD:
            session.add_input(frame)
        else:
            session.add_probe(frame)

    async def _text_message(self, session: Session, text: str) -> None:
        try:
            message = message_of(text)
        except BadMessage as error:
            session.outbox.send({"type": "problem", "what": "message", "why": str(error)})
            return
        match message:
            case None | Hello():
                return
            case Ping():
                self._confirm(message.seen)
                session.outbox.send({"type": "pong", "t": message.t})
            case Counts():
                session.count(message)
            case Machine():
                session.set_machine(message)
            case Calibrate():
                await session.calibrate(message)
            case Start():
                await self._start(session, message)
            case Stop():
                await session.end("stopped", "stopped")
            case _:
                await session.change(message)

    async def _start(self, session: Session, request: Start) -> None:
        refusal = await session.start(request)
        if refusal is None:
            logs.event("playing", session=session.id)
            return
        self.server.metrics.refused.labels(refusal["reason"]).inc()
        session.outbox.send(refusal)

    async def _send(self, session: Session) -> None:
        metrics = self.server.metrics
        while True:
            await session.wake.wait()
            session.wake.clear()
            while (message := session.outbox.take()) is not None:
                self.progress = time.monotonic()
                if isinstance(message, Frame):
                    data = encode(message, session.hello.format)
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
        """Send the state; end sessions that last too long or clients that do not read."""
        limits, notified = self.server.limits, False
        while True:
            await asyncio.sleep(STATE_INTERVAL)
            now = time.monotonic()
            if self.progress and now - self.progress > limits.stalled:
                raise Closed(1008, "limit", f"nothing was read for {limits.stalled:g} s")
            if self.unread and now - self.unread[0][1] > limits.stalled:
                raise Closed(1008, "limit", f"nothing was read for {limits.stalled:g} s, or no ping has confirmed it")
            if session.connection is not self:
                raise Closed(1008, "taken", "the session goes on in another connection")
            left = session.began + limits.session - now
            if left < 0:
                await session.end("limit", f"a session lasts {limits.session / 60:g} min at most")
                continue
            if left < 60 and not notified:
                notified = True
                session.outbox.send({"type": "ending", "seconds": left, "why": "the session reaches its limit"})
            if self.server.engine.failure is not None:
                await session.end("error", "the server's model has failed; its log says why")
                continue
            session.outbox.send(session.state() | self._numbered(now))

    def _numbered(self, now: float) -> dict[str, int]:
        """The number of a state message, to be confirmed, where the socket hides what was read."""
        if not self.server.replica:
            return {}
        self.stated += 1
        self.unread.append((self.stated, now))
        return {"n": self.stated}

    def _confirm(self, seen: int | None) -> None:
        while seen is not None and self.unread and self.unread[0][0] <= seen:
            self.unread.popleft()

    # --- the end

    async def _close(self, closed: Closed) -> None:
        """Send the reason and close; disconnect a client that does not read."""
        message = {"type": "ended", "files": [], **closed.fields, "why": closed.why}

        async def send_and_close() -> None:
            await self.socket.send_text(json.dumps(message))
            await self.socket.close(closed.code, closed.why[:120])

        try:
            await asyncio.wait_for(send_and_close(), CLOSE_TIMEOUT)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            transport = self.socket.scope.get("state", {}).get("transport")
            if transport is not None:
                transport.abort()

    async def _disconnected(self, how: str) -> None:
        session = self.session
        if session is None or session.connection is not self:
            return
        session.connection = None
        if how == "lost" and session.live is not None:
            session.wait_reconnect(self.server.limits.resume)
            return
        await session.end(how, "the connection was closed")
