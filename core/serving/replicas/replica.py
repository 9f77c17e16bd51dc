"""One replica of Ray Serve: a whole server, with its own model thread, slots, admission and recordings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from attrs import field, frozen
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from accomp.core.console import say
from accomp.core.registry import Registry
from accomp.core.serving import logs
from accomp.core.serving.app import app_of
from accomp.core.serving.limits import Limits
from accomp.core.serving.playing.engine import Engine
from accomp.core.serving.playing.recording import Recorder
from accomp.core.serving.playing.served_run import ServedRun
from accomp.core.serving.security import AccessControl, bearer
from accomp.core.serving.server import Server
from accomp.core.serving.startup import Startup

CHECKS = 1.0
"""Seconds between two health checks of Ray's controller."""
UNCHECKED = 4.0
"""Seconds without a check after which a replica asks whether it is being removed: Ray does not tell it."""


@frozen
class ReplicaOptions:
    """What every replica serves; paths are the same on all machines.

    Attributes:
        runs: name -> folder.
        slots: of each run; None: the measured capacity of the replica's machine.
        record: folder of recordings; None: no recording.
    """

    runs: Mapping[str, Path]
    token: str = field(repr=False)
    origins: tuple[str, ...] = ()
    slots: int | None = None
    record: Path | None = None
    runtime: tuple[str, ...] = ()
    guidance: Mapping[str, float] | None = None
    force: bool = False
    measure: bool = False
    behind_proxy: bool = False
    limits: Limits = field(factory=Limits)


Prepare = Callable[[ReplicaOptions, ExitStack, Server, Callable[[str], None]], dict[str, ServedRun]]


def prepare_runs(
    options: ReplicaOptions, stack: ExitStack, server: Server, tell: Callable[[str], None]
) -> dict[str, ServedRun]:
    """Load and measure the runs. Raises as Startup.prepare does."""
    opening = Startup(
        options.runs, Registry(), slots=options.slots, runtime=options.runtime, guidance=options.guidance,
        force=options.force, again=options.measure, stack=stack,
    )  # fmt: skip
    return opening.prepare(server, tell)


class Replica:
    """A deployment of Ray Serve, to be wrapped by `serve.ingress(Front())`. Ready once its models are.

    It refuses clients itself, in words, since Ray would let them hang. If it is removed it ends as a server does on
    SIGTERM: no new sessions, those that play are notified, fade out and are closed with 1012. If its model fails, so do
    its health checks, and Ray replaces it.
    """

    async def __init__(self, options: ReplicaOptions, prepare: Prepare = prepare_runs):  # type: ignore[misc]  # as Ray has it
        """Raises as `prepare` does."""
        context = serve.get_replica_context()
        self.id, self._names = context.replica_tag, (context.app_name, context.deployment)
        recorder = None if options.record is None else Recorder(options.record)
        self._server = server = Server(
            "serve", Engine(), AccessControl(options.token, options.origins), options.limits, recorder=recorder,
            replica=self.id,
        )  # fmt: skip
        logs.to_stderr()
        routes = [Route("/v1/replicas", self._replicas)]
        app = app_of(server, routes)
        self.web: ASGIApp = ProxyHeadersMiddleware(app, trusted_hosts="*") if options.behind_proxy else app  # type: ignore[assignment, arg-type]
        self._stack = ExitStack()
        model = server.engine.open(lambda tell: prepare(options, self._stack, server, tell))
        while not server.engine.ready:
            if model.done():
                model.result()
            await asyncio.sleep(0.1)
        self._checked = time.monotonic()
        self._watching = asyncio.create_task(self._end_when_removed())
        say(f"replica {self.id} is ready")

    # --- called by Ray

    def check_health(self) -> None:
        """Raise if the model has failed or hangs; called every CHECKS seconds, until the replica is removed."""
        self._checked = time.monotonic()
        if not self._server.engine.alive:
            raise RuntimeError(f"the model of replica {self.id} does not run: {self._server.engine.failure}")

    def record_routing_stats(self) -> dict[str, int]:
        """Free places, for Router; 0 while none is admitted."""
        return {"free": 0 if self._server.refusal() else self._server.slots["free"]}

    def describe(self) -> dict[str, Any]:
        """State of this replica, for /v1/replicas."""
        server = self._server
        return {
            "replica": self.id,
            "sessions": len(server.sessions),
            "admits": server.refusal() is None,
            **server.slots,
        }

    async def _end_when_removed(self) -> None:
        while time.monotonic() - self._checked < UNCHECKED or not await asyncio.to_thread(self._is_removed):
            await asyncio.sleep(CHECKS)
        logs.event("removed", replica=self.id, sessions=len(self._server.sessions))
        await self._server.end()
        self._stack.close()

    def _is_removed(self) -> bool:
        """Whether Ray is stopping replicas, of which the one that is not checked any more is this."""
        name, deployment = self._names
        app = serve.status().applications.get(name)
        if app is None or app.status == "DELETING" or deployment not in app.deployments:
            return True
        return app.deployments[deployment].replica_states.get("STOPPING", 0) > 0

    # --- HTTP

    async def _replicas(self, request: Request) -> Response:
        """All replicas, in the format of Prometheus' discovery by HTTP."""
        if not self._server.access.accepts_token(bearer(request.headers.get("authorization"))):
            return JSONResponse({"why": "the token is missing or wrong: Authorization: Bearer TOKEN"}, 401)
        name, deployment = self._names
        handle = serve.get_deployment_handle(deployment, name)
        told = await asyncio.to_thread(handle.broadcast("describe").results, timeout_s=5.0)
        return JSONResponse([discovered(one, request.headers.get("host", "")) for one in told])


def discovered(told: Mapping[str, Any], host: str) -> dict[str, Any]:
    """A replica as a target of Prometheus: its metrics are at /metrics?replica=NAME of the common address."""
    labels = {"replica": told["replica"], "__metrics_path__": "/metrics", "__param_replica": told["replica"]}
    state = {f"__meta_accomp_{name}": str(told[name]).lower() for name in ("sessions", "free", "all", "admits")}
    return {"targets": [host], "labels": labels | state}


class Front:
    """ASGI application that hands all requests to the application of the replica in whose process it is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        replica: Any = serve.get_replica_context().servable_object
        await replica.web(scope, receive, send)


async def _live(receive: Receive, send: Send) -> None:
    """The lifespan protocol, for nothing to do."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
