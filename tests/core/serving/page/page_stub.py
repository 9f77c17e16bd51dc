"""A server that speaks the page's protocol and plays back later what it hears, so that all can be compared exactly."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import uvicorn
from page_files import PAGE, TAP
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

TOKEN = "a-token"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self'; media-src 'self' blob:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "microphone=(self)",
}
MODELS = [
    {
        "name": "pretrained",
        "t_f_ms": -200,
        "k_ms": 20,
        "rate": 32000,
        "instruments": ["Bass", "Percussive", "Guitar", "Chromatic Percussion"],
        "members": {"Percussive": "drums", "Chromatic Percussion": "vibraphone, bells"},
        "dials": {"temperature": {"min": 0.1, "max": 2.0, "default": 0.9}},
        "metronome": True,
        "chart": True,
        "followers": {"metronome": True, "chart": True},
    }
]
BUDGET = [
    {"name": "a frame of input", "ms": 10.0},
    {"name": "generate", "ms": 9.4},
    {"name": "sound around", "ms": 61.2},
    {"name": "needed", "ms": 162.0},
    {"name": "left by t_f = -10 frames", "ms": 200.0},
]


class Stub:
    """Attributes that tests set: `delay_ms`, `refusal` (a message in place of "playing"), `close` (message, code) in
    place of a welcome, `problem` (why no chart is taken), `preparing` (what it does before it has models), `cards` (of
    its models), `cut` (end the socket at the next frame), `farewell` (a message with which the session ends then). What
    came: `hellos`, `messages`, `heard`."""

    def __init__(self) -> None:
        self.reset()
        routes = [
            Route("/", lambda request: self.file("index.html")),
            Route("/page/{name}", lambda request: self.file(request.path_params["name"])),
            Route("/v1/models", self.models),
            Route("/v1/probe", self.probe),
            Route("/v1/recordings/{session}/{name}", self.recording),
            WebSocketRoute("/v1/live", self.live),
        ]
        self.app = Starlette(routes=routes)

    def reset(self) -> None:
        self.delay_ms = 600  # enough for a busy machine
        self.refusal: dict[str, Any] | None = None
        self.close: tuple[dict[str, Any], int] | None = None
        self.problem = self.preparing = ""
        self.cards = [dict(card) for card in MODELS]
        self.measured: dict[str, Any] = {"ok": True, "first_ms": 61.2, "agree_ms": 0.1, "snr_db": 38}
        self.state: dict[str, Any] = {}
        self.cut = False
        self.farewell: dict[str, Any] | None = None
        self.drop = range(0)  # numbers of frames that are not played back
        self.hellos: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.heard: list[tuple[int, int, int, np.ndarray]] = []  # kind, flags, place, samples
        self.sockets: list[WebSocket] = []
        self.session = ""

    def of_type(self, name: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == name]

    def sound(self, kind: int = 1) -> tuple[int, np.ndarray]:
        """(place, samples) of all that was heard, holes filled with zeros."""
        frames = [(place, samples) for of, _, place, samples in self.heard if of == kind]
        first = frames[0][0]
        out = np.zeros(frames[-1][0] + len(frames[-1][1]) - first, dtype=np.float32)
        for place, samples in frames:
            out[place - first : place - first + len(samples)] = samples
        return first, out

    def file(self, name: str) -> Response:
        if name == "tap.js":
            return Response(TAP, media_type="text/javascript", headers=HEADERS)
        path = PAGE / name
        return FileResponse(path, headers=HEADERS) if path.is_file() else Response(status_code=404)

    def allowed(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    def models(self, request: Request) -> Response:
        if not self.allowed(request):
            return Response(status_code=401)
        told = {"models": self.cards, "mode": "jam", "record": True}
        if self.preparing:
            told |= {"models": [], "preparing": self.preparing}
        return JSONResponse(told, headers=HEADERS)

    def probe(self, request: Request) -> Response:
        rate = int(request.query_params["rate"])
        noise = np.random.default_rng(0).choice([-0.25, 0.25], round(0.6 * rate)).astype("<f4")
        return Response(noise.tobytes(), media_type="application/octet-stream", headers=HEADERS)

    def recording(self, request: Request) -> Response:
        if not self.allowed(request):
            return Response(status_code=401)
        if request.path_params["name"].endswith(".json"):
            return JSONResponse({"session": self.session}, headers=HEADERS)
        sound = self.sound()[1]
        head = b"RIFF" + struct.pack("<I", 36 + 4 * len(sound)) + b"WAVEfmt "
        form = struct.pack("<IHHIIHH", 16, 3, 1, 44100, 4 * 44100, 4, 32)
        body = head + form + b"data" + struct.pack("<I", 4 * len(sound)) + sound.tobytes()
        return Response(body, media_type="audio/wav", headers=HEADERS)

    async def live(self, ws: WebSocket) -> None:
        await ws.accept(subprotocol="accomp.1")
        hello = json.loads(await ws.receive_text())
        self.hellos.append(hello)
        if hello["token"] != TOKEN:
            await self.refuse(ws, {"type": "refused", "why": "the token is not this server's"}, 1008)
        elif self.close:
            await self.refuse(ws, *self.close)
        else:
            await self.serve(ws, hello)

    async def refuse(self, ws: WebSocket, message: dict[str, Any], code: int) -> None:
        await ws.send_json(message)
        await ws.close(code)

    async def serve(self, ws: WebSocket, hello: dict[str, Any]) -> None:
        self.sockets.append(ws)
        if not hello["resume"]:
            self.session = f"session-{len(self.hellos)}"
        slots = {"free": 1, "all": 1}
        welcome = {"session": self.session, "resume": f"secret of {self.session}", "models": self.cards, "slots": slots}
        await ws.send_json({"type": "welcome", "mode": "jam", "record": True, "limits": {}, **welcome})
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                message = await ws.receive()
                if message.get("bytes") is not None:
                    await self.take(ws, message["bytes"], hello["rate"])
                elif message.get("text") is not None:
                    await self.obey(ws, json.loads(message["text"]), hello["rate"])
                else:
                    return

    async def take(self, ws: WebSocket, frame: bytes, rate: int) -> None:
        kind, flags, _, number, place = struct.unpack_from("<BBHIQ", frame)
        samples = np.frombuffer(frame, "<f4", offset=16)
        self.heard.append((kind, flags, place, samples))
        if self.cut:
            self.cut = False
            raise WebSocketDisconnect  # an answer without a close frame: 1006 or 1012 for the page
        if self.farewell:
            await self.refuse(ws, self.farewell, 1000)
            raise WebSocketDisconnect
        if kind != 1 or self.refusal or not self.of_type("start"):
            return
        delay = self.delay_ms * rate // 1000
        start = self.of_type("start")[-1]
        if not start.get("answered"):
            start["answered"] = True
            await ws.send_json({"type": "playing", "place": place + delay, **self.counted(start, place, rate)})
        if number not in self.drop:
            await ws.send_bytes(struct.pack("<BBHIQ", 1, 0, 0, number, place + delay) + frame[16:])

    def counted(self, start: dict[str, Any], place: int, rate: int) -> dict[str, Any]:
        count = start["count_in"]
        more = {"budget": BUDGET, "spare_ms": 38.0}
        if count:
            more["count_in_end"] = place + rate // 5 + round(count["beats"] * 60 * rate / count["bpm"])
        return more

    async def obey(self, ws: WebSocket, message: dict[str, Any], rate: int) -> None:
        kind = message["type"]
        self.messages.append(message)
        if kind == "ping":
            await ws.send_json({**message, "type": "pong"})
        elif kind == "calibrate":
            await ws.send_json(self.verdict(message))
        elif kind == "start" and self.refusal:
            await ws.send_json({"type": "refused", **self.refusal})
        elif kind == "chart" and self.problem:
            await ws.send_json({"type": "problem", "what": "chart", "why": self.problem})
        elif kind in ("mute", "freeze", "instrument", "metronome", "chart", "panic"):
            await ws.send_json({"type": "applied", "what": kind, "place": self.heard[-1][2] + rate // 5})
        elif kind == "dial":
            await ws.send_json({"type": "applied", "what": "temperature", "place": self.heard[-1][2] + rate // 5})
        elif kind == "counts":
            tick = {"p50": 8.1, "p99": 11.4}
            await ws.send_json({"type": "state", "tick_ms": tick, "load": 0.4, "lost_input_ms": 0, **self.state})
        elif kind == "stop":
            names = ("input.wav", "stem.wav", "heard.wav", "mix.wav", "manifest.json") if self.heard else ()
            files = [{"name": name, "url": f"/v1/recordings/{self.session}/{name}", "bytes": 1000} for name in names]
            await ws.send_json({"type": "ended", "why": "You stopped it.", "files": files})
            await ws.close(1000)

    def verdict(self, message: dict[str, Any]) -> dict[str, Any]:
        judged = {"budget": BUDGET, "spare_ms": 38.0, "model": "pretrained"}
        if "assumed_ms" in message:
            return {"type": "measured", "ok": True, "first_ms": message["assumed_ms"], "assumed": True, **judged}
        return {"type": "measured", **self.measured, **(judged if self.measured["ok"] else {})}


@contextlib.contextmanager
def serving(app: Starlette, **options: Any) -> Iterator[str]:
    """The app on a free port of this machine, in a thread: its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="critical", ws_per_message_deflate=False, **options
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(timeout=10)
