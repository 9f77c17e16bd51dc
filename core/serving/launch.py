"""`accomp jam` and `accomp serve`: a server in this process, until a signal ends it."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen

from accomp.core.console import say, warn
from accomp.core.errors import PluginError, UserError
from accomp.core.registry import Registry
from accomp.core.runs.models import find_model

BLOCK = 0.01
"""Seconds of a block of a sound device."""
RAY_LIBRARIES = ("ray", "fastapi")
LIBRARIES = ("starlette", "uvicorn", "websockets", "httptools", "prometheus_client", "soxr")


@frozen
class ServeOptions:
    """Options of `accomp jam` or `accomp serve`.

    Attributes:
        slots: sessions of each run; None: the measured capacity.
        record: the folder of recordings; None: no recording.
        measure: measure this machine though a start before has.
        device, output: sound devices of this machine, in place of the page's (jam); "" for the system's default, None
            for none and for the same one. midi_clock: a MIDI input whose clock sessions may follow; None for none.
        engine: "local": a server in this process; "ray": `replicas` of it in a Ray cluster, each with `cpus` CPU
            threads and `gpus` GPUs. ray_address: of the cluster; "": Ray is started on this machine.
    """

    runs: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 8765
    slots: int | None = None
    cert: Path | None = None
    key: Path | None = None
    behind_proxy: bool = False
    origins: Sequence[str] = ()
    token_file: Path | None = None
    record: Path | None = None
    runtime: Sequence[str] = ()
    guidance: Mapping[str, float] | None = None
    force: bool = False
    measure: bool = False
    browser: bool = False
    limits: Mapping[str, float] = field(factory=dict)
    device: str | None = None
    output: str | None = None
    midi_clock: str | None = None
    engine: Literal["local", "ray"] = "local"
    replicas: int = 1
    cpus: int = 1
    gpus: float = 0.0
    ray_address: str = ""


def jam(options: ServeOptions, registry: Registry) -> None:
    """Serve one musician on this machine; the page is available while the model still warms up.

    Raises UserError for runs, addresses and folders that cannot be used, PluginError where libraries are missing,
    CombinationError for models that are too slow, WorkError where the model fails.
    """
    _serve("jam", options, registry)


def serve(options: ServeOptions, registry: Registry) -> None:
    """Serve many musicians, by one clock. Raises as `jam` does, and if not even one session fits."""
    if options.engine == "ray":
        _serve_on_ray(options, registry)
    else:
        _serve("serve", options, registry)


def _serve(mode: str, options: ServeOptions, registry: Registry) -> None:
    from accomp.core.serving.security import AccessControl, check_origins, token_from

    if options.output is not None and options.device is None:
        raise UserError("--output names the other half of --device; give both")
    if options.midi_clock is not None and options.device is None:
        raise UserError(
            "--midi-clock belongs to --device; where the browser plays, choose the MIDI clock on the page instead "
            f"@ --midi-clock {options.midi_clock}"
        )
    address = _address(options)
    origins, token = check_origins(options.origins), token_from(options.token_file)
    runs = _runs(options.runs, registry)
    bound = address.bind()
    _introduce(
        address.url(bound.getsockname()[1], token), options
    )  # the socket queues connections during the imports below

    from accomp.core.serving.limits import Limits
    from accomp.core.serving.logs import to_stderr
    from accomp.core.serving.playing.engine import Engine
    from accomp.core.serving.playing.recording import Recorder
    from accomp.core.serving.server import Server
    from accomp.core.serving.startup import Startup
    from accomp.core.serving.web import run_until_signal

    try:
        recorder = None if options.record is None else Recorder(options.record)
    except OSError as error:
        raise UserError(f"cannot record there: {error.strerror} @ --record {options.record}") from None
    limits = Limits(hellos_per_minute=60, sessions_per_address=4) if mode == "jam" else Limits(**options.limits)  # type: ignore[arg-type]
    server = Server(mode, Engine(), AccessControl(token, origins), limits, recorder=recorder)
    if options.device is not None:
        server.device = _open_device(options.device, options.output)
        if options.midi_clock is not None:
            server.clock = _open_clock(options.midi_clock, server.device)
    opening = Startup(
        runs, registry, slots=1 if mode == "jam" else options.slots, runtime=options.runtime, guidance=options.guidance,
        force=options.force, again=options.measure,
    )  # fmt: skip
    if mode == "serve":
        to_stderr()
    with opening.stack:
        if server.device is not None:
            opening.stack.callback(server.device.close)
            server.device.start()
        if server.clock is not None:
            opening.stack.callback(server.clock.close)
            server.clock.start()
        run_until_signal(server, address, bound, lambda tell: opening.prepare(server, tell))
    say("ended")


def _open_device(name: str, output: str | None) -> Any:
    """Open a MachineAudio. Raises PluginError without the library, DataError for devices that cannot be used."""
    from accomp.core.realtime.sound_device import SoundDevice, device_rate
    from accomp.core.serving.machine.audio import MachineAudio

    output = name if output is None else output
    rate = device_rate(name, output)
    block = round(BLOCK * rate)
    device = SoundDevice(rate, block, input=name, output=output)
    told = " and ".join(dict.fromkeys(one or "the system's default" for one in (name, output)))
    around = 1000 * device.first / rate
    say(f"sound device: {told}, {rate} Hz, {around:.0f} ms around as PortAudio reports; measure it on the page")
    return MachineAudio(device, name=told, rate=rate, block=block)


def _open_clock(name: str, audio: Any) -> Any:
    """Open a MachineClock. Raises PluginError without the libraries, DataError for a port that cannot be used."""
    from accomp.core.realtime.midi_input import MidiInput
    from accomp.core.serving.machine.clock import MachineClock

    clock = MachineClock(MidiInput(name), audio)
    say(f"MIDI clock: {clock.port}")
    return clock


def _serve_on_ray(options: ServeOptions, registry: Registry) -> None:
    missing = [name for name in RAY_LIBRARIES if find_spec(name) is None]
    if missing:
        raise PluginError(f"replicas need {', '.join(missing)}; run: pip install 'accomp[serve,ray]'")
    address, runs = _address(options), _runs(options.runs, registry)

    from accomp.core.serving.limits import Limits
    from accomp.core.serving.replicas.deploy import Cluster, serve_replicas
    from accomp.core.serving.replicas.replica import ReplicaOptions
    from accomp.core.serving.security import check_origins, token_from

    record = None if options.record is None else options.record.resolve()
    replica = ReplicaOptions(
        {name: folder.resolve() for name, folder in runs.items()}, token_from(options.token_file),
        check_origins(options.origins), options.slots, record, tuple(options.runtime), options.guidance, options.force,
        options.measure, options.behind_proxy, Limits(**options.limits),  # type: ignore[arg-type]
    )  # fmt: skip
    cluster = Cluster(options.replicas, options.cpus, options.gpus, options.ray_address)
    serve_replicas(address, replica, cluster, started=lambda url: _introduce(url, options))
    say("ended")


def _address(options: ServeOptions) -> Any:
    """Address to listen at. Raises UserError for one that browsers refuse, PluginError without the libraries."""
    from accomp.core.serving.address import Address

    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise PluginError(f"a live page needs {', '.join(missing)}; run: pip install 'accomp[serve]'")
    address = Address(options.host, options.port, options.cert, options.key, options.behind_proxy)
    address.check()
    return address


def _introduce(url: str, options: ServeOptions) -> None:
    say(f"open {url}")
    if options.record is not None:
        say(f"recordings: {options.record.resolve()}")
    if options.browser:
        threading.Thread(target=_open, args=(url,), daemon=True).start()


def _open(url: str) -> None:
    if not webbrowser.open(url):
        warn(f"no browser could be opened here; open {url} yourself")


def _runs(names: Sequence[str], registry: Registry) -> dict[str, Path]:
    """Resolve each run under a unique name. Raises UserError for a name without a run, and for one given twice."""
    runs: dict[str, Path] = {}
    for name in names or _shipped(registry):
        short = Path(name).name if Path(name).is_dir() else name
        if short in runs:
            raise UserError(f"two runs have the name {short!r}; rename the folder of one @ {name}")
        runs[short] = find_model(name, registry)
    return runs


def _shipped(registry: Registry) -> list[str]:
    """The shipped model. Raises UserError if there is none."""
    if not (there := registry.names("model")):
        raise UserError("there is no shipped model; name a run folder")
    return [there[0]]
