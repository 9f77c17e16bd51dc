"""What comes before the sound: origin, hello and token, then a new session, or one that is resumed."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from accomp.core.serving import logs
from accomp.core.serving.protocol.message_parsing import BadMessage, message_of
from accomp.core.serving.protocol.messages import Hello
from accomp.core.serving.security import session_id
from accomp.core.serving.server import Server
from accomp.core.serving.session import Session

STATE_INTERVAL = 0.5
"""Seconds between two state messages."""
Agreed = tuple[Session, Hello, dict[str, Any]]
"""A session, the hello of its client, and the welcome to be sent."""


class Closed(Exception):
    """The connection is to be closed: code, end of the session, and reason for the client."""

    def __init__(self, code: int, how: str, why: str, **fields: Any):
        super().__init__(why)
        self.code, self.how, self.why, self.fields = code, how, why, fields


class Handshake:
    """The handshake of one WebSocket."""

    def __init__(self, server: Server, socket: WebSocket, address: str):
        self.server, self.socket, self.address = server, socket, address

    async def perform(self) -> Agreed:
        """Agree on a session. Raises Closed for a client that is refused, WebSocketDisconnect for one that leaves."""
        self._check_origin()
        server = self.server
        if not server.hello_limiter.allow(self.address):
            most = server.limits.hellos_per_minute
            raise self._refusal(1008, "limit", f"more than {most} connections in a minute; wait", retry_after=60)
        hello = await self._hello()
        if not server.access.accepts_token(hello.token):
            raise self._refusal(1008, "token", "the token is not this server's; open the address that it printed")
        if server.device is not None and hello.rate != server.device.rate:
            why = f"the sound is that of the server's machine, at {server.device.rate} Hz; reload the page"
            raise self._refusal(1008, "path", why)
        await self._wait_ready()
        if hello.resume and isinstance(session := server.sessions.get(hello.resume), Session):
            return self._resume(session, hello)
        if server.mode == "jam":
            await self._end_lost()
        if (refusal := server.refusal()) is not None:
            raise self._refusal(1013, refusal["reason"], refusal["why"], retry_after=refusal["retry_after"],
                                slots=refusal["slots"])  # fmt: skip
        if server.count(self.address) >= server.limits.sessions_per_address:
            most = server.limits.sessions_per_address
            raise self._refusal(1008, "limit", f"{most} sessions come from this address already")
        session = Session(
            server, hello, self.address, session_id(), secrets.token_urlsafe(18), asyncio.get_running_loop()
        )
        server.open_session(session)
        logs.event("session_opened", session=session.id, rate=hello.rate, frame=hello.frame, format=hello.format,
                   client=hello.client)  # fmt: skip
        return session, hello, server.welcome(session, why=self._not_resumed() if hello.resume else "")

    def _check_origin(self) -> None:
        headers = self.socket.headers
        if not self.server.access.accepts_host(headers.get("host")):
            raise self._refusal(
                1008, "token", "this server does not answer to that host name; ask for it by its address"
            )
        if not self.server.access.accepts_origin(headers.get("origin"), headers.get("host")):
            raise self._refusal(
                1008, "token", "a page from elsewhere may not connect here (--allow-origin names those)"
            )

    def _refusal(self, code: int, reason: str, why: str, **fields: Any) -> Closed:
        self.server.metrics.refused.labels(reason).inc()
        logs.event("refused", reason=reason, why=why)
        return Closed(code, "refused", why, type="refused", reason=reason, **fields)

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

    async def _wait_ready(self) -> None:
        """Wait, with state messages, until the models are ready."""
        engine = self.server.engine
        while not engine.ready and engine.failure is None:
            await self.socket.send_json({"type": "state", "ready": False, "said": f"preparing: {engine.preparing}"})
            await asyncio.sleep(STATE_INTERVAL)

    def _not_resumed(self) -> str:
        """Reason for which the session that a client wanted to resume is not here."""
        server, asked = self.server, self.socket.query_params.get("replica", self.server.replica)
        if asked != server.replica:
            return f"the session was on replica {asked}, which has ended; this is a new one, on {server.replica}"
        return f"the session has ended; after a lost connection it is kept for {server.limits.resume:g} s"

    async def _end_lost(self) -> None:
        """End lost sessions: in jam mode a newly opened page replaces a lost one."""
        for session in [one for one in self.server.sessions.values() if one.connection is None]:
            await session.end("lost", "another page was opened")

    def _resume(self, session: Session, hello: Hello) -> Agreed:
        if hello.rate != session.hello.rate:
            raise self._refusal(1008, "path", "the session goes on at another rate than it began with; begin a new one")
        self.server.metrics.reconnects.inc()
        logs.event("resumed", session=session.id)
        return session, hello, self.server.welcome(session, resumed=True)
