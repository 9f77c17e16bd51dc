"""The ASGI application: the page, its resources, and the WebSocket."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from accomp.core.serving.connection import Connection
from accomp.core.serving.playing.calibration import probe
from accomp.core.serving.playing.recording import NAMES
from accomp.core.serving.playing.runs import card
from accomp.core.serving.protocol.message_parsing import RATES
from accomp.core.serving.security import HEADERS, bearer
from accomp.core.serving.server import Server

PAGE = Path(__file__).parent / "page"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".html": "text/html",
          ".svg": "image/svg+xml", ".json": "application/json", ".webmanifest": "application/manifest+json",
          ".png": "image/png", ".ico": "image/x-icon"}  # fmt: skip


def app_of(server: Server, more: Sequence[BaseRoute] = ()) -> ASGIApp:
    """The application of a server, with `more` routes."""

    def authorised(request: Request) -> bool:
        return server.access.accepts_token(bearer(request.headers.get("authorization")))

    async def index(request: Request) -> Response:
        if server.device is None:
            return _file(PAGE / "index.html")
        text = (PAGE / "index.html").read_text(encoding="utf-8")
        text = text.replace("<html", f'<html data-device="{server.device.rate}"', 1)
        return Response(text, media_type="text/html", headers={"Cache-Control": "no-cache"})

    async def page(request: Request) -> Response:
        name = request.path_params["name"]
        parts = name.split("/")
        if not all(_NAME.fullmatch(part) for part in parts):
            return _not_found()
        return _file(PAGE.joinpath(*parts))

    async def models(request: Request) -> Response:
        if not authorised(request):
            return _unauthorised()
        device = server.device
        cards = [card(run, server.followers) for run in server.runs.values()]
        told: dict[str, Any] = {"models": cards, "mode": server.mode}
        if server.engine.preparing:
            told["preparing"] = server.engine.preparing
        if device is not None:
            first = round(1000 * device.first / device.rate, 1)
            clock = None if server.clock is None else server.clock.port
            told["device"] = {"name": device.name, "rate": device.rate, "first_ms": first, "clock": clock}
        return JSONResponse(told)

    async def sound(request: Request) -> Response:
        rate = request.query_params.get("rate", "")
        if not rate.isdecimal() or not RATES[0] <= int(rate) <= RATES[1]:
            return PlainTextResponse(f"rate: expected a whole number from {RATES[0]} to {RATES[1]}", 400)
        return Response(probe(int(rate)).astype("<f4").tobytes(), media_type="application/octet-stream")

    async def recording(request: Request) -> Response:
        if not authorised(request):
            return _unauthorised()
        session, name = request.path_params["session"], request.path_params["name"]
        if server.recorder is None or name not in NAMES or not re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", session):
            return _not_found()
        return _file(server.recorder.folder / session / name)

    async def live(request: Request) -> Response:
        return _health(server.engine.alive, {} if server.engine.alive else {"why": "the model's thread is not running"})

    async def ready(request: Request) -> Response:
        engine = server.engine
        if engine.failure is not None:
            why = "the model has failed; the log says why"
        elif not engine.ready:
            why = f"preparing: {engine.preparing}"
        else:
            why = "ending" if server.ending is not None or server.drained else ""
        return _health(not why, {"why": why} if why else {})

    async def metrics(request: Request) -> Response:
        if not authorised(request):
            return _unauthorised()
        _refresh(server)
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def drain(request: Request) -> Response:
        if not authorised(request):
            return _unauthorised()
        server.drained = True
        server.metrics.admission.set(0)
        return JSONResponse({"drained": True, "sessions": len(server.sessions)})

    async def talk(socket: WebSocket) -> None:
        await Connection(server, socket).serve()

    routes = [
        Route("/", index),
        Route("/page/{name:path}", page),
        Route("/v1/models", models),
        Route("/v1/probe", sound),
        Route("/v1/recordings/{session}/{name}", recording),
        Route("/v1/drain", drain, methods=["POST"]),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", metrics),
        WebSocketRoute("/v1/live", talk),
        *more,
    ]
    return _Guarded(Starlette(routes=routes), server)


class _Guarded:
    """Adds security headers, and rejects requests for other hosts."""

    def __init__(self, app: ASGIApp, server: Server):
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        if not self._server.access.accepts_host(dict(scope["headers"]).get(b"host", b"").decode("latin-1")):
            text = (
                "this server does not answer to that host name; ask for it by its address (--allow-origin names others)"
            )
            await PlainTextResponse(text, 421)(scope, receive, guarded)
            return
        name, asked = self._server.replica, Request(scope).query_params.get("replica")
        if name and asked not in (None, name):
            text = f"no replica {asked} runs any more; this is {name}, and /v1/replicas lists all"
            await PlainTextResponse(text, 404)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


def _refresh(server: Server) -> None:
    metrics = server.metrics
    metrics.slots.set(server.slots["all"])
    metrics.active.set(len(server.sessions))
    metrics.load.set(sum(run.ticks.load for run in server.runs.values()))
    metrics.admission.set(0 if server.refusal() else 1)


def _file(path: Path) -> Response:
    if not path.is_file():
        return _not_found()
    kind = _TYPES.get(path.suffix)
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "no-cache"})


def _health(good: bool, fields: dict[str, Any]) -> Response:
    return Response(json.dumps({"ok": good, **fields}), 200 if good else 503, media_type="application/json")


def _not_found() -> Response:
    return PlainTextResponse("there is nothing here", 404)


def _unauthorised() -> Response:
    return PlainTextResponse("the token is missing or wrong: Authorization: Bearer TOKEN", 401)
