"""The web server: socket, event loop and shutdown."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from accomp.core.errors import UserError, WorkError
from accomp.core.serving.address import SENT_AHEAD, Address
from accomp.core.serving.app import app_of
from accomp.core.serving.playing.served_run import ServedRun
from accomp.core.serving.protocol.frames import MOST_BYTES
from accomp.core.serving.server import Server

LAST_TICK = 5.0
"""Timeout in seconds for the model's thread at the end."""
Prepare = Callable[[Callable[[str], None]], dict[str, ServedRun]]


class _Protocol(WebSocketsSansIOProtocol):
    """Gives the application access to the transport, to disconnect a client that does not read."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.transport.set_write_buffer_limits(SENT_AHEAD)
            self.scope["state"]["transport"] = self.transport


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to this module instead of uvicorn."""
        yield


async def run(
    server: Server, address: Address, bound: socket.socket, prepare: Prepare, *,
    stop: asyncio.Event, started: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Serve until `stop` is set and all sessions have ended, or the model fails. Raises the failure.

    prepare: as for Engine.open; connections are accepted meanwhile. started: called when the page can be requested.
    """
    config = uvicorn.Config(
        app_of(server), log_level="warning", access_log=False, ws=_Protocol, ws_max_size=MOST_BYTES + 1024,
        ws_per_message_deflate=False, ws_ping_interval=20.0, ws_ping_timeout=20.0, lifespan="off",
        timeout_graceful_shutdown=2, proxy_headers=address.behind_proxy,
        forwarded_allow_ips="*" if address.behind_proxy else None, server_header=False,
        ssl_certfile=address.cert, ssl_keyfile=address.key,
    )  # fmt: skip
    web = _Uvicorn(config)
    serving = asyncio.create_task(web.serve(sockets=[bound]))
    while not web.started and not serving.done():
        await asyncio.sleep(0.01)
    model = server.engine.open(prepare)
    started()
    try:
        await _until(stop, serving, model)
        await server.end()
    finally:
        web.should_exit = True
        await serving
        for _ in range(round(LAST_TICK / 0.05)):  # a process must not end while a thread computes
            if model.done():
                break
            await asyncio.sleep(0.05)
    if (failure := server.engine.failure) is not None:
        if isinstance(failure, UserError | WorkError):
            raise failure
        raise WorkError(f"the model's thread has failed: {type(failure).__name__}: {failure}") from failure


async def _until(stop: asyncio.Event, serving: asyncio.Task[None], model: Future[None]) -> None:
    """Wait for a shutdown request, or the end of either task."""
    requested = asyncio.create_task(stop.wait())
    while not requested.done() and not serving.done() and not model.done():
        await asyncio.wait([requested, serving], timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
    requested.cancel()


def run_until_signal(
    server: Server, address: Address, bound: socket.socket, prepare: Prepare, started: Callable[[], None] = lambda: None
) -> None:
    """Serve in the main thread: SIGINT or SIGTERM shuts down gracefully, a second one at once. Raises the failure."""

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def note() -> None:
            server.hurried = stop.is_set()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, note)
        await run(server, address, bound, prepare, stop=stop, started=started)

    asyncio.run(main())
