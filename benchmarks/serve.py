"""Load test of the server: step time, CPU use and late chunks, optionally with misbehaving clients.

    python benchmarks/serve.py [--spec quickstart] [--set runtime.compile=on] [--sessions 1 8 32] [--seconds 20] [--bad]
    python benchmarks/serve.py --sessions 1 --hours 2 --drift 100 [--json FILE]     # one long session

The server is a separate process, with an untrained model of the spec, its codec, and as many slots as there are
sessions; the clients are paced sockets of 48 kHz in frames of 10 ms, all in this process. With --bad one more of each
kind comes as well: it floods, never reads, sends NaN, sends broken frames, stalls, sends too many messages. With
--drift the clients' clocks run fast by so many ppm.

For each number of sessions: p50, p99, p99.9 of a tick (ms), CPU time for a frame of 10 ms of one session (us), late
ticks and chunks an hour, the slope of the server's memory (MB an hour) and the mean correction of the clocks (ppm;
negative for clocks that run fast; it takes minutes to settle), both without the first tenth, and the samples that are
missing between a client's frames, with those that the server has counted as dropped. A chunk is late if its first
sample arrived after its time at the client.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define, field

RATE, FRAME = 48_000, 480
TICKS = 2**20
"""Of which times are kept, in memory taken at the start: a list that grows looks like a leak of the server."""
TOKEN = "a-token-of-the-benchmark"
BAD = ("floods", "never reads", "sends NaN", "breaks frames", "falls silent", "talks too much")


# --- the server's process


def serve(spec_name: str, settings: Sequence[str], slots: int) -> None:
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
    limits = Limits(session=1e6, hellos_per_minute=10_000, sessions_per_address=10_000, ending=0.5, late_share=1.0)
    server = Server("serve", Engine(), AccessControl(TOKEN), limits)
    took, seen_ticks = np.full(TICKS, np.nan), itertools.count()
    stages: dict[str, ServedRun] = {}

    def seen(seconds: float, late: bool, parts: dict[str, float]) -> None:
        took[next(seen_ticks) % TICKS] = seconds
        server.metrics.ticked(seconds, late, parts)

    def prepare(say: object) -> dict[str, ServedRun]:
        spec = load_spec(spec_name, registry, settings)
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
                "took": took[np.isfinite(took)].tolist(), "mb": usage.ru_maxrss / 1024,
                "late": ticks.late, "reanchored": ticks.resynced,
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
    next: int = 0
    holes: int = 0
    corrected: list[float] = field(factory=list)

    def audio(self, place: int, samples: int, now: float) -> None:
        """Count a frame that came `now` seconds after the beginning of this client's clock."""
        margin = place / RATE - now
        self.holes += place - self.next if self.chunks else 0
        self.next = place + samples
        self.chunks += 1
        self.late += margin < 0
        self.margins.append(margin)


async def client(port: int, seconds: float, bad: str = "", drift: float = 0.0) -> Received:
    """Run one client for `seconds`, optionally misbehaving. drift: share by which its clock is fast."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    heard = Received()
    try:
        async with connect(f"ws://127.0.0.1:{port}/v1/live", compression=None, max_size=None, max_queue=1) as socket:
            hello = {"type": "hello", "protocol": 1, "token": TOKEN, "rate": RATE, "frame": FRAME, "format": "f32"}
            await socket.send(json.dumps(hello))
            await socket.send(json.dumps({"type": "start", "force": True}))
            began = time.monotonic()
            reading = asyncio.create_task(_read(socket, heard, began, drift, reads=bad != "never reads"))
            try:
                await _play(socket, began, seconds, bad, drift)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    except (ConnectionClosed, OSError) as error:
        heard.ended = str(error)
    return heard


async def _play(socket: Any, began: float, seconds: float, bad: str, drift: float) -> None:
    from accomp.core.serving.protocol.frames import HEARD, Frame, encode

    noise = np.random.default_rng(0).uniform(-0.1, 0.1, FRAME).astype(np.float32)
    if bad == "sends NaN":
        noise[:] = np.nan
    for number in range(round(seconds * (1 + drift) * RATE / FRAME)):
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
        await asyncio.sleep(max(0.0, began + (number + 1) * FRAME / RATE / (1 + drift) - time.monotonic()))


async def _read(socket: Any, heard: Received, began: float, drift: float, *, reads: bool) -> None:
    from accomp.core.serving.protocol.frames import HEADER, SAMPLE_BYTES

    if not reads:
        await asyncio.sleep(1e6)
    async for message in socket:
        if isinstance(message, bytes):
            samples = (len(message) - HEADER.size) // SAMPLE_BYTES["f32"]
            heard.audio(HEADER.unpack_from(message)[4], samples, (time.monotonic() - began) * (1 + drift))
        elif (told := json.loads(message))["type"] == "state" and "drift_ppm" in told:
            heard.corrected.append(told["drift_ppm"])


async def musicians(
    port: int, sessions: int, seconds: float, bad: bool, drift: float
) -> tuple[list[Received], list[Received]]:
    """Run all clients concurrently."""
    good = [client(port, seconds, drift=drift) for _ in range(sessions)]
    others = [client(port, seconds, how) for how in BAD] if bad else []
    heard = await asyncio.gather(*good, *others)
    return heard[:sessions], heard[sessions:]


# --- the benchmark


def measured(
    spec: str, settings: Sequence[str], sessions: int, seconds: float, bad: bool, drift: float = 0.0
) -> dict[str, Any]:
    """Measure one run of the server with `sessions` sessions."""
    slots = sessions + (len(BAD) if bad else 0)
    words = [sys.executable, __file__, "--spec", spec, "--slots", str(slots)]
    words += [word for setting in settings for word in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    port = json.loads(process.stdout.readline())["port"]
    period = json.loads(process.stdout.readline())["period"]
    time.sleep(1)
    before = cpu_of(process.pid)
    with Memory(process.pid) as memory:
        good, others = asyncio.run(musicians(port, sessions, seconds, bad, drift))
    used = cpu_of(process.pid) - before
    process.terminate()
    told = json.loads(process.stdout.readlines()[-1])
    took = 1000 * np.array(told.pop("took"))
    margins = 1000 * np.array([margin for one in good for margin in one.margins] or [0.0])
    chunks, hours = sum(one.chunks for one in good), seconds / 3600
    corrected = [float(np.mean(one.corrected[len(one.corrected) // 10 :])) for one in good if one.corrected]
    return {
        "sessions": sessions, "bad": [f"{how}: {one.ended[:60]}" for how, one in zip(BAD, others, strict=False)],
        "period_ms": 1000 * period, "ticks": len(took),
        **{f"p{q:g}_ms": float(np.percentile(took, q)) for q in (50, 99, 99.9)},
        "cpu_share": used / seconds, "cpu_ms_a_tick": 1000 * used / max(1, seconds / period),
        "cpu_us_a_frame": 1e6 * used / (sessions * seconds * RATE / FRAME),
        "chunks": chunks, "late_chunks": sum(one.late for one in good),
        "late_chunks_per_hour": sum(one.late for one in good) / hours, "memory_mb_per_hour": memory.slope,
        "drift_ppm": 1e6 * drift, "corrected_ppm": corrected, "missing_samples": sum(one.holes for one in good),
        "ended": [one.ended[:60] for one in good if one.ended],
        "late_ticks_per_hour": told["late"] * 3600 / max(1e-9, len(took) * period),
        "margin_p1_ms": float(np.percentile(margins, 1)), "margin_median_ms": float(np.median(margins)), **told,
    }  # fmt: skip


class Memory:
    """Samples the resident memory of a process (Linux) within the block.

    Attributes:
        slope: MB an hour, by least squares over all but the first tenth.
    """

    def __init__(self, process: int, every: float = 0.5):
        self._process, self._every = process, every
        self._samples: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE") / 2**20
        while not self._ended.wait(self._every):
            pages = int(Path(f"/proc/{self._process}/statm").read_text().split()[1])
            self._samples.append((time.monotonic() / 3600, pages * page))

    @property
    def slope(self) -> float:
        samples = np.array(self._samples[len(self._samples) // 10 :])
        return float(np.polyfit(*samples.T, 1)[0]) if len(samples) > 2 else 0.0


def cpu_of(process: int) -> float:
    """Return the CPU seconds of a process (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spec", default="quickstart")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="of the spec")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--hours", type=float, help="instead of --seconds")
    parser.add_argument("--drift", type=float, default=0.0, help="of the clients' clocks (ppm)")
    parser.add_argument("--bad", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--slots", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.slots:
        serve(asked.spec, asked.settings, asked.slots)
        return
    seconds = asked.seconds if asked.hours is None else 3600 * asked.hours
    lines = []
    for sessions in asked.sessions:
        lines.append(line := measured(asked.spec, asked.settings, sessions, seconds, asked.bad, asked.drift / 1e6))
        told = {key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}
        print(json.dumps(told), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
