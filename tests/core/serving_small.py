"""A server with a small model, on a free port, in a thread: for tests of the server, and of its page."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import latents
import numpy as np
from attrs import define, evolve, field
from small import Constant, small_model
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition, TimelineCondition
from accomp.core.registry import Registry
from accomp.core.runs.player import Player
from accomp.core.serving.address import Address
from accomp.core.serving.limits import Limits
from accomp.core.serving.machine.audio import MachineAudio
from accomp.core.serving.machine.clock import MachineClock
from accomp.core.serving.playing.engine import Engine
from accomp.core.serving.playing.fitting import measure
from accomp.core.serving.playing.recording import Recorder
from accomp.core.serving.playing.runs import Followers, slots_of
from accomp.core.serving.playing.served_run import ServedRun
from accomp.core.serving.playing.ticks import Ticks
from accomp.core.serving.protocol.frames import HEARD, Frame, decode, encode
from accomp.core.serving.security import AccessControl
from accomp.core.serving.server import Server
from accomp.core.serving.web import run
from accomp.core.types import TokenSpace
from accomp.plugins.samplers.top_k import TopK

TOKEN = "a-token-of-tests-0123456789"


class Loud(Constant):
    """The small codec at 32 kHz and 50 Hz: what it decodes can be played in a page. delay: samples, in name only."""

    def __init__(self, delay: int = 0) -> None:
        super().__init__()
        self.space = TokenSpace(32000, 640, codebooks=3, codebook_size=10, latent_dim=6, delay=delay)


def small_player(t_f: int = -10, k: int = 1, *, delay: int = 0, **how: object) -> Player:
    """A player of an untrained model that takes no time."""
    tokenizer = Loud(delay)
    model = small_model(t_f, k, space=tokenizer.space, labels={"instrument": 18}, **how)
    sampler = TopK(TopK.Config(k=6, temperature=0.9), model.space)
    return Player(tokenizer, model, sampler, window=50, step=1, weights="0" * 64, objective="ar")


def latent_player(t_f: int = -10, k: int = 5) -> Player:
    """A player of an untrained model of latents that takes no time."""
    conditions = Conditions(
        ContextCondition(), {"instrument": LabelCondition(classes=18)}, {"metronome": TimelineCondition()}
    )
    model = latents.model(t_f, k, conditions=conditions).float()
    return Player(latents.Means(), model, latents.euler(2), window=10 * k, step=1, weights="1" * 64, objective="flow")


@define(eq=False)
class Running:
    """A server that runs. Attributes: server: only to be looked at; loop: its own."""

    server: Server
    port: int
    token: str = TOKEN
    loop: asyncio.AbstractEventLoop | None = None
    stop: asyncio.Event = field(factory=asyncio.Event)
    failure: BaseException | None = None

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return f"http://127.0.0.1:{self.port}/#token={self.token}"

    def wish(self) -> None:
        """Ask it to end, as SIGTERM does."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.stop.set)


def prepared(
    server: Server, runs: Sequence[tuple[str, Player]], registry: Registry, slots: int
) -> dict[str, ServedRun]:
    """The stages of a server whose machine is quick, whatever else it does."""
    stages = {}
    for name, player in runs:
        made = slots_of(player, slots)
        quick = {part: 1e-4 for part in ("encode", "first", "chunk", "decode")}
        server.measured[name] = evolve(measure(made, 5, warm=2), **quick, jitter=1e-3)
        ticks = Ticks(made.hop / made.space.sample_rate, server.metrics.ticked)
        stages[name] = ServedRun(name, player, made, registry, server.clocked, ticks, server.limits, clock=server.clock)
    server.followers = Followers.of(registry)
    return stages


def prepare_small(options, stack, server, tell) -> dict[str, ServedRun]:
    """The runs of a replica."""
    return prepared(server, [("small", small_player())], Registry(third_party=False), options.slots)


@contextmanager
def serving(
    *,
    mode: str = "jam",
    slots: int = 1,
    players: Sequence[tuple[str, Player]] | None = None,
    limits: Limits | None = None,
    record: Path | None = None,
    registry: Registry | None = None,
    before: Callable[[], None] = lambda: None,
    replica: str = "",
    device: MachineAudio | None = None,
    clock: MachineClock | None = None,
) -> Iterator[Running]:
    """A server of these runs. before: done in the model's thread before the runs are there."""
    registry = registry or Registry(third_party=False)
    limits = evolve(
        limits or Limits(sessions_per_address=100, ending=2.0), hellos_per_minute=1000, late_share=1.0, stall=20.0
    )
    server = Server(mode, Engine(), AccessControl(TOKEN), limits, recorder=None if record is None else Recorder(record),
                    replica=replica, device=device, clock=clock)  # fmt: skip

    def prepare(say: Callable[[str], None]) -> dict[str, ServedRun]:
        before()
        say("the runs are loaded")
        runs = players or [("small", small_player(timelines=("metronome", "chart")))]
        return prepared(server, runs, registry, slots)

    address = Address(port=0)
    bound = address.bind()
    running, started = Running(server, bound.getsockname()[1]), threading.Event()

    async def main() -> None:
        running.loop = asyncio.get_running_loop()
        await run(server, address, bound, prepare, stop=running.stop, started=started.set)

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            traceback.print_exception(error)
            running.failure = error
        started.set()

    thread = threading.Thread(target=work, name="server", daemon=True)
    thread.start()
    started.wait(30)
    try:
        yield running
    finally:
        with suppress(RuntimeError):  # it has ended by itself
            running.wish()
        thread.join(15)
        assert not thread.is_alive(), "the server has not ended"


class Client:
    """A musician's page without a browser, over a real socket."""

    def __init__(
        self,
        running: Running,
        *,
        rate: int = 32000,
        frame: int = 640,
        origin: str | None = None,
        host: str = "127.0.0.1",
        max_queue: int | None = 16,
        query: str = "",
    ):
        """host: as which the server is asked for. max_queue: messages that are read ahead."""
        self.rate, self.frame = rate, frame
        self._opening = connect(  # type: ignore[call-overload]
            f"ws://{host}:{running.port}/v1/live{query}",
            sock=socket.create_connection(("127.0.0.1", running.port), timeout=20),
            subprotocols=["accomp.1"],
            origin=origin,
            compression=None,
            max_size=None,
            max_queue=max_queue,
            close_timeout=1,
            open_timeout=60,  # a command that has just begun lets who knocks wait
        )
        self.socket: ClientConnection = self._opening.__enter__()
        self.place = 0
        self.number = 0
        self.frames: list[Frame] = []
        self.told: list[dict] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, **message: object) -> None:
        self.socket.send(json.dumps(message))

    def hello(self, token: str = TOKEN, **more: object) -> dict:
        """Say hello -> what comes back that is no state."""
        hello = {"type": "hello", "protocol": 1, "token": token, "rate": self.rate, "frame": self.frame}
        with suppress(ConnectionClosed):  # it may be refused before; what was said is there to be read
            self.say(**{**hello, **more})
        return self.next("welcome", "refused", "ended", seconds=60)

    def send(self, sound: np.ndarray, format: str = "f32", kind: int = HEARD) -> None:
        """Sound [n], a multiple of the frame, at the next places."""
        for begin in range(0, len(sound), self.frame):
            piece = sound[begin : begin + self.frame].astype(np.float32)
            self.socket.send(encode(Frame(kind, self.place, piece, self.number), format))
            self.place += self.frame
            self.number += 1

    def feed(self, sound: np.ndarray) -> None:
        """Send sound no faster than the model plays to it, once it plays."""
        for begin in range(0, len(sound), self.frame):
            self.send(sound[begin : begin + self.frame])
            while begin > 40 * self.frame and (not self.frames or self.frames[-1].place < self.place - self.rate):
                self.next_frame()

    def receive(self, seconds: float = 10.0) -> dict | Frame:
        """The next message; kept in `frames` or `told`."""
        message = self.socket.recv(timeout=seconds)
        if isinstance(message, bytes):
            self.frames.append(decode(message, "f32"))
            return self.frames[-1]
        self.told.append(json.loads(message))
        return self.told[-1]

    def next(self, *kinds: str, seconds: float = 10.0) -> dict:
        """The next message of one of these types; what comes before is kept."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = self.receive(seconds)
            if isinstance(message, dict) and message["type"] in kinds:
                return message
        raise TimeoutError(f"no {' or '.join(kinds)} within {seconds} s; told: {self.told[-5:]}")

    def next_frame(self, seconds: float = 10.0) -> Frame:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = self.receive(seconds)
            if isinstance(message, Frame):
                return message
        raise TimeoutError(f"no sound within {seconds} s; told: {self.told[-5:]}")

    def played(self) -> tuple[int, np.ndarray]:
        """All frames so far, joined: the first place, and the samples. They must follow each other."""
        for before, after in zip(self.frames, self.frames[1:], strict=False):
            assert before.place + len(before.samples) == after.place
        return self.frames[0].place, np.concatenate([frame.samples for frame in self.frames])
