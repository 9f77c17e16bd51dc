"""Command line of `jam` and `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN ...]", help="Run folders, names of `accomp models`, hub:owner/repo."),
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]
RuntimeWords = Annotated[
    list[str] | None,
    typer.Option("--runtime", metavar="KEY=VALUE", help="Settings of [runtime], instead of automatic ones."),
]
Force = Annotated[bool, typer.Option("--force", help="Play though this machine is too slow; late sound is silent.")]
Measure = Annotated[
    bool,
    typer.Option("--measure", help="Measure this machine again, instead of using an earlier start's figures."),
]
Token = Annotated[
    Path | None, typer.Option("--token-file", help="A file with the token; ACCOMP_TOKEN or a new one otherwise.")
]


def jam_command(
    context: typer.Context,
    runs: Runs = None,
    port: Port = 8765,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    record: Annotated[Path, typer.Option("--record", help="The folder of recordings.")] = Path("jams"),
    runtime: RuntimeWords = None,
    token_file: Token = None,
    measure: Measure = False,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Play through this sound device, or `default`, instead of the browser's."),
    ] = None,
    output: Annotated[str | None, typer.Option("--output", help="With --device: another device for output.")] = None,
    midi_clock: Annotated[
        str | None,
        typer.Option("--midi-clock", help="With --device: a MIDI input, or part of its name, whose clock is followed."),
    ] = None,
) -> None:
    """Play with a model in your browser, on this machine; the shipped model where no run is named."""
    from accomp.core.serving.launch import ServeOptions, jam

    options = ServeOptions(
        runs or [], port=port, record=record, runtime=runtime or (), browser=browser, token_file=token_file,
        measure=measure, device=_system(device), output=_system(output), midi_clock=midi_clock,
    )  # fmt: skip
    jam(options, context.obj)


def _system(name: str | None) -> str | None:
    return "" if name == "default" else name


def serve_command(
    context: typer.Context,
    runs: Runs = None,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; another than this machine needs TLS.")
    ] = "127.0.0.1",
    port: Port = 8765,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Sessions of each run; as many as fit otherwise.")
    ] = None,
    cert: Annotated[Path | None, typer.Option("--tls-cert", help="A certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")] = None,
    behind_proxy: Annotated[bool, typer.Option("--behind-proxy", help="A proxy speaks TLS for this server.")] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin", help="Pages there may connect, and it is a name of this server: https://jam.example.org."
        ),
    ] = None,
    token_file: Token = None,
    record: Annotated[
        Path | None, typer.Option("--record", help="A folder: sessions may be recorded there. Off otherwise.")
    ] = None,
    session_minutes: Annotated[
        float, typer.Option("--session-minutes", min=1, help="How long a session may last.")
    ] = 60.0,
    runtime: RuntimeWords = None,
    force: Force = False,
    measure: Measure = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="ray: several servers behind one address (accomp[ray]).")
    ] = "local",
    replicas: Annotated[int, typer.Option("--replicas", min=1, help="Servers of --engine ray.")] = 1,
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="CPU threads of each replica.")] = 1,
    gpus: Annotated[float, typer.Option("--gpus", min=0, help="GPUs of each replica; 0.5: two share one.")] = 0.0,
    ray_address: Annotated[
        str, typer.Option("--ray-address", help="A Ray cluster, HOST:6379 or auto; started on this machine otherwise.")
    ] = "",
) -> None:
    """Let many musicians play with models of this machine, in their browsers."""
    from accomp.core.serving.launch import ServeOptions, serve

    options = ServeOptions(
        runs or [], host, port, slots, cert, key, behind_proxy, allow_origin or (), token_file, record, runtime or (),
        force=force, limits={"session": 60 * session_minutes}, engine=engine, replicas=replicas, cpus=cpus, gpus=gpus,
        ray_address=ray_address, measure=measure,
    )  # fmt: skip
    serve(options, context.obj)
