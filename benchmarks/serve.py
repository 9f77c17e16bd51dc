"""Load test of the server: step time, CPU use and late chunks, optionally with misbehaving clients.

    python benchmarks/serve.py [--spec quickstart] [--sessions 1 8] [--seconds 20] [--bad] [--json FILE]

The server is a separate process, with an untrained model of the spec, its codec, and as many slots as there are
sessions; the clients are paced sockets of 48 kHz in frames of 10 ms, all in this process. With --bad one more of each
kind comes as well: it floods, never reads, sends NaN, sends broken frames, stalls, sends too many messages. A chunk is
late if its first sample arrived after its time at the client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define, field

RATE, FRAME = 48_000, 480
TOKEN = "a-token-of-the-benchmark"
BAD = ("floods", "never reads", "sends NaN", "breaks frames", "falls silent", "talks too much")


# --- the server's process


def serve(spec_name: str, slots: int) -> None:
    """Run the server until SIGTERM, then print the measurements as JSON."""
    from accomp.core.compute.devices import device_of, threads
    from accomp.core.registry import Registry
    from accomp.core.serving.address import Address
    from accomp.core.serving.limits import Limits
    from accomp.core.serving.playing.engine import Engine
    from accomp.core.serving.playing.fitting import measure
    from accomp.core.serving.playing.runs import slots_of
    from accomp.core.serving.playing.served_run import ServedRun
    from accomp.core.serving.playing.ticks import Ticks
    from accomp.core.serving.security import AccessControl
    from accomp.core.serving.server import Server
    from accomp.core.serving.web import run_until_signal
    from accomp.core.spec.schema import load_spec
    from accomp.core.training.random_init import untrained_player

    registry = Registry()
    limits = Limits(hellos_per_minute=10_000, sessions_per_address=10_000, ending=0.5, late_share=1.0)
    server = Server("serve", Engine(), AccessControl(TOKEN), limits)
    took: list[float] = []
    stages: dict[str, ServedRun] = {}

    def seen(seconds: float, late: bool, parts: dict[str, float]) -> None:
        took.append(seconds)
        server.metrics.ticked(seconds, late, parts)

    def prepare(say: object) -> dict[str, ServedRun]:
        spec = load_spec(spec_name, registry)
        player = untrained_player(spec, registry, device_of("cpu"))
        made = slots_of(player, slots)
        server.measured["bench"] = measure(made, 20)
        ticks = Ticks(made.hop / made.space.sample_rate, seen)
        stages["bench"] = ServedRun("bench", player, made, registry, True, ticks, limits)
        print(json.dumps({"ready": True, "period": ticks.period}), flush=True)
        return stages

    address = Address(port=0)
    bound = address.bind()
    with threads(1):
        run_until_signal(
            server, address, bound, prepare, lambda: print(json.dumps({"port": bound.getsockname()[1]}), flush=True)
        )
    ticks = stages["bench"].ticks
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "took": took, "late": ticks.late, "reanchored": ticks.resynced, "mb": usage.ru_maxrss / 1024,
                "dropped": server.metrics.output_dropped._value.get(), "lost": server.metrics.input_lost._value.get(),
            }
        ),
        flush=True,
    )  # fmt: skip


# --- clients


@define
class Received:
    """Output received by one client."""

    chunks: int = 0
    late: int = 0
    margins: list[float] = field(factory=list)
    ended: str = ""


async def client(port: int, seconds: float, bad: str = "") -> Received:
    """Run one client for `seconds`, optionally misbehaving."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    heard = Received()
    try:
        async with connect(f"ws://127.0.0.1:{port}/v1/live", compression=None, max_size=None, max_queue=1) as socket:
            hello = {"type": "hello", "protocol": 1, "token": TOKEN, "rate": RATE, "frame": FRAME, "format": "f32"}
            await socket.send(json.dumps(hello))
            await socket.send(json.dumps({"type": "start", "force": True}))
            began = time.monotonic()
            reading = asyncio.create_task(_read(socket, heard, began, reads=bad != "never reads"))
            await _play(socket, began, seconds, bad)
            reading.cancel()
    except (ConnectionClosed, OSError) as error:
        heard.ended = str(error)
    return heard


async def _play(socket: Any, began: float, seconds: float, bad: str) -> None:
    from accomp.core.serving.frames import HEARD, Frame, encode

    noise = np.random.default_rng(0).uniform(-0.1, 0.1, FRAME).astype(np.float32)
    if bad == "sends NaN":
        noise[:] = np.nan
    for number in range(round(seconds * RATE / FRAME)):
        message = encode(Frame(HEARD, number * FRAME, noise, number), "f32")
        if bad == "breaks frames" and number == 200:
            message = message[:-3]
        if bad == "falls silent" and number > 200:
            await asyncio.sleep(seconds - 2)
            return
        await socket.send(message)
        if bad == "talks too much" and number > 200:
            await socket.send('{"type": "ping"}')
        if bad == "floods" and number > 200:
            continue
        await asyncio.sleep(max(0.0, began + (number + 1) * FRAME / RATE - time.monotonic()))


async def _read(socket: Any, heard: Received, began: float, *, reads: bool) -> None:
    from accomp.core.serving.frames import HEADER

    if not reads:
        await asyncio.sleep(1e6)
    async for message in socket:
        if isinstance(message, bytes):
            place = HEADER.unpack_from(message)[4]
            margin = place / RATE - (time.monotonic() - began)
            heard.chunks += 1
            heard.late += margin < 0
            heard.margins.append(margin)


async def musicians(port: int, sessions: int, seconds: float, bad: bool) -> tuple[list[Received], list[Received]]:
    """Run all clients concurrently."""
    good = [client(port, seconds) for _ in range(sessions)]
    others = [client(port, seconds, how) for how in BAD] if bad else []
    heard = await asyncio.gather(*good, *others)
    return heard[:sessions], heard[sessions:]


# --- the benchmark


def measured(spec: str, sessions: int, seconds: float, bad: bool) -> dict[str, Any]:
    """Measure one run of the server with `sessions` sessions."""
    slots = sessions + (len(BAD) if bad else 0)
    words = [sys.executable, __file__, "--spec", spec, "--slots", str(slots)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    port = json.loads(process.stdout.readline())["port"]
    period = json.loads(process.stdout.readline())["period"]
    time.sleep(1)
    before = cpu_of(process.pid)
    good, others = asyncio.run(musicians(port, sessions, seconds, bad))
    used = cpu_of(process.pid) - before
    process.terminate()
    told = json.loads(process.stdout.readlines()[-1])
    took = 1000 * np.array(told.pop("took"))
    margins = 1000 * np.array([margin for one in good for margin in one.margins] or [0.0])
    chunks = sum(one.chunks for one in good)
    return {
        "sessions": sessions, "bad": [f"{how}: {one.ended[:60]}" for how, one in zip(BAD, others, strict=False)],
        "period_ms": 1000 * period, "ticks": len(took),
        **{f"p{q:g}_ms": float(np.percentile(took, q)) for q in (50, 99, 99.9)},
        "cpu_share": used / seconds, "cpu_ms_a_tick": 1000 * used / max(1, seconds / period),
        "chunks": chunks, "late_chunks": sum(one.late for one in good),
        "late_ticks_per_hour": told["late"] * 3600 / max(1e-9, len(took) * period),
        "margin_p1_ms": float(np.percentile(margins, 1)), "margin_median_ms": float(np.median(margins)), **told,
    }  # fmt: skip


def cpu_of(process: int) -> float:
    """Return the CPU seconds of a process (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spec", default="quickstart")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--bad", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--slots", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.slots:
        serve(asked.spec, asked.slots)
        return
    lines = [measured(asked.spec, sessions, asked.seconds, asked.bad) for sessions in asked.sessions]
    for line in lines:
        print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}))
    if asked.json:
        asked.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
