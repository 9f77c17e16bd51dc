"""`accomp bench`: its command lines. Benchmarks are imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accomp.core.bench.options import Before, Device, Json, Paced, Profile, Settings, SpecName, Threads, Variants
from accomp.core.errors import UserError

if TYPE_CHECKING:
    from accomp.core.bench.measuring import Benchmark
    from accomp.core.bench.records.record import BenchRow

bench = typer.Typer(rich_markup_mode=None)


@bench.callback(invoke_without_command=True)
def benchmarks(
    context: typer.Context,
    calibrate: Annotated[
        str | None,
        typer.Option("--calibrate", metavar="SPEC", help="Find out which (t_f, k) this machine could play live."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="With --calibrate: the page with the plot.")
    ] = Path("calibration.html"),
    settings: Settings = None,
    device: Device = None,
    threads: Threads = None,
    steps: Annotated[int, typer.Option(min=1, help="With --calibrate: frames of each k that are timed.")] = 1000,
) -> None:
    """Measure the runtime on this machine with untrained models on noise; neither corpus nor training is needed."""
    if calibrate is None:
        if context.invoked_subcommand is None:
            raise UserError("which benchmark? `accomp bench --help` lists them; --calibrate SPEC finds what plays live")
        return
    if context.invoked_subcommand is not None:
        raise UserError(f"--calibrate SPEC stands alone, without {context.invoked_subcommand!r}")
    from accomp.core.bench.calibrate import calibrate as measure

    measure(calibrate, settings or (), context.obj, out, device=device, threads=threads, steps=steps)


@bench.command()
def stream(
    context: typer.Context,
    spec: SpecName = None,
    settings: Settings = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each variant; p99.9 is reported from 1000 on.")] = 1000,
    paced: Paced = False,
    variant: Variants = None,
    profile: Profile = False,
    device: Device = None,
    threads: Threads = None,
    json: Json = None,
    compare: Before = None,
) -> None:
    """Measure one session frame by frame (k = 1), with a full window, in all runtime variants in turns."""
    from accomp.core.bench.cases.stream import Stream

    _run(context, Stream(steps, paced, tuple(variant or ()), profile), spec, settings, device, threads, json, compare)


@bench.command()
def chunk(
    context: typer.Context,
    spec: SpecName = None,
    settings: Settings = None,
    steps: Annotated[int, typer.Option(min=1, help="Chunks of each variant; p99.9 is reported from 1000 on.")] = 100,
    variant: Variants = None,
    profile: Profile = False,
    device: Device = None,
    threads: Threads = None,
    json: Json = None,
    compare: Before = None,
) -> None:
    """Measure one session with chunks of k > 1 frames: a chunk, and the latency of its first frame."""
    from accomp.core.bench.cases.chunk import Chunk

    _run(context, Chunk(steps, tuple(variant or ()), profile), spec, settings, device, threads, json, compare)


@bench.command()
def mlm(
    context: typer.Context,
    spec: SpecName = None,
    settings: Settings = None,
    seconds: Annotated[float, typer.Option(help="Of music.")] = 10.0,
    repeat: Annotated[int, typer.Option(min=1, help="How often.")] = 5,
    variant: Variants = None,
    profile: Profile = False,
    device: Device = None,
    threads: Threads = None,
    json: Json = None,
    compare: Before = None,
) -> None:
    """Measure ten seconds of a model of whole clips: masked sampling, with the spec's guidance."""
    from accomp.core.bench.cases.mlm import Mlm

    _run(
        context,
        _options(Mlm, seconds=seconds, repeat=repeat, variants=tuple(variant or ()), profile=profile),
        spec,
        settings,
        device,
        threads,
        json,
        compare,
    )


@bench.command()
def train(
    context: typer.Context,
    spec: SpecName = None,
    settings: Settings = None,
    repeat: Annotated[int, typer.Option(min=1, help="How many steps.")] = 5,
    profile: Profile = False,
    device: Device = None,
    threads: Threads = None,
    json: Json = None,
    compare: Before = None,
) -> None:
    """Measure an optimizer step: frames a second, share of the machine's matmul rate."""
    from accomp.core.bench.cases.train import Train

    _run(context, Train(repeat, profile), spec, settings, device, threads, json, compare)


@bench.command()
def codec(
    context: typer.Context,
    spec: SpecName = None,
    settings: Settings = None,
    frames: Annotated[
        list[int] | None, typer.Option(help="Frames of a push; repeatable. 1, 5 and 25 otherwise.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Sessions side by side; repeatable. 1 otherwise.")] = None,
    seconds: Annotated[float, typer.Option(help="Of sound in a round.")] = 4.0,
    repeat: Annotated[int, typer.Option(min=1, help="How many rounds.")] = 5,
    device: Device = None,
    threads: Threads = None,
    json: Json = None,
    compare: Before = None,
) -> None:
    """Measure encoding and decoding as a stream and in one call."""
    from accomp.core.bench.cases.codec import Codec

    benchmark = _options(
        Codec, frames=tuple(frames or (1, 5, 25)), batches=tuple(batch or (1,)), seconds=seconds, repeat=repeat
    )
    _run(context, benchmark, spec, settings, device, threads, json, compare)


@bench.command()
def sessions(
    context: typer.Context,
    spec: SpecName = None,
    settings: Settings = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="Sessions in a batch; repeatable. 1, 2, 4 and so on to 1024 otherwise.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each batch.")] = 200,
    with_codec: Annotated[bool, typer.Option("--codec/--no-codec", help="Sound in and out, or tokens alone.")] = True,
    paced: Paced = False,
    variant: Annotated[str, typer.Option(help="How the model is run.")] = "",
    load: Annotated[
        list[float] | None,
        typer.Option(
            help="And, in pace, as many as take this share of the time, such as 0.7: how often are they late?"
        ),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="Instead: one session for so many hours of music; does its memory grow?")
    ] = None,
    profile: Profile = False,
    device: Device = None,
    threads: Threads = None,
    json: Json = None,
    compare: Before = None,
) -> None:
    """Increase the number of sessions in one batch until one misses its deadline."""
    from accomp.core.bench.cases.sessions import BATCHES, Sessions

    batches, loads = tuple(batch or BATCHES), tuple(load or ())
    options = {"steps": steps, "codec": with_codec, "paced": paced, "variant": variant, "loads": loads, "hours": hours}
    benchmark = _options(Sessions, batches=batches, profile=profile, **options)
    _run(context, benchmark, spec, settings, device, threads, json, compare)


@bench.command()
def offline(
    context: typer.Context,
    spec: SpecName = None,
    settings: Settings = None,
    frames: Annotated[int, typer.Option(min=8, help="Of the clip.")] = 100,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="A compiled way to run the model, to be compared; repeatable.")
    ] = None,
    device: Device = None,
    threads: Threads = None,
    json: Json = None,
    compare: Before = None,
) -> None:
    """Compare streaming with offline (k = 1): share of equal codes, largest difference of logits."""
    from accomp.core.bench.cases.offline import Offline

    _run(context, Offline(frames, tuple(variant or ())), spec, settings, device, threads, json, compare)


@bench.command()
def loader(
    context: typer.Context,
    spec: SpecName = None,
    settings: Settings = None,
    songs: Annotated[int, typer.Option(min=1, help="In the store that is made up.")] = 40,
    minutes: Annotated[float, typer.Option(help="Length of each.")] = 4.0,
    stems: Annotated[int, typer.Option(min=2, help="Of each.")] = 8,
    incompressible: Annotated[bool, typer.Option("--incompressible", help="All codes equally likely.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Readers at a time.")] = 2,
    seconds: Annotated[float, typer.Option(help="Of reading.")] = 10.0,
    json: Json = None,
    compare: Before = None,
) -> None:
    """Measure reading of clips from a token store: clips a second, and their bytes on the disk."""
    from accomp.core.bench.cases.loader import Loader
    from accomp.core.bench.made_up_songs import Songs

    content = _options(Songs, songs=songs, minutes=minutes, stems=stems, incompressible=incompressible)
    benchmark = _options(Loader, songs=content, processes=processes, seconds=seconds)
    _run(context, benchmark, spec, settings, None, None, json, compare)


@bench.command()
def precision(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run folder, or a name of `accomp models`, that plays at k = 1.")
    ],
    batches: Annotated[int, typer.Option(min=1, help="Of validation clips.")] = 8,
    device: Device = None,
    json: Json = None,
    compare: Before = None,
) -> None:
    """Measure the held-out loss of int8 and bfloat16, of weights and cache, with a trained model."""
    from accomp.core.bench.cases.precision import precision as measure
    from accomp.core.bench.measuring import show
    from accomp.core.runs.models import find_model

    folder = find_model(run, context.obj)
    show(lambda: measure(folder, context.obj, batches=batches, device=device), json, compare)


@bench.command()
def suite(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to run: core/bench/suite/run.py explains it.")],
    json: Annotated[Path, typer.Option("--json", metavar="FILE", help="The record; the tables go beside it as .md.")],
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this run; repeatable.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Run nothing; write the tables with what is there.")] = False,
) -> None:
    """Run many benchmarks, with targets beside the measurements."""
    from accomp.core.bench.suite.run import suite as measure

    raise typer.Exit(measure(file, context.obj, json=json, only=only or (), plan=plan))


def _options(cls: type[Any], **values: object) -> Any:
    """Create the benchmark with these options. Raises UserError for one out of range."""
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(f"{error.args[0] if error.args else error} @ accomp bench {cls.__name__.lower()}") from None


def _run(
    context: typer.Context,
    benchmark: Benchmark,
    spec: str | None,
    settings: list[str] | None,
    device: str | None,
    threads: int | None,
    json: Path | None,
    compare: Path | None,
) -> None:
    from accomp.core.bench.measuring import measure, show

    def lines() -> list[BenchRow]:
        return measure(benchmark, spec, settings or (), context.obj, device=device, threads=threads)

    show(lines, json, compare)
