"""Commands that have a model play: to a file, at a sound device, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accomp.core.cli.options import Labels, ModelName, Scales, scales
from accomp.core.cli.panels import PLAY
from accomp.core.errors import UserError
from accomp.core.runs.models import find_model

app = typer.Typer()

Runtimes = Annotated[
    list[str] | None,
    typer.Option(
        "--runtime", metavar="KEY=VALUE", help="Of [runtime], instead of the run's: compile=on, weights=w8a8."
    ),
]


@app.command("stream", rich_help_panel=PLAY)
def stream_command(
    run: ModelName,
    input: Annotated[
        Path,
        typer.Option("--input", help="The audio to accompany; with --realtime also device or device:NAME."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", help="Where the stem goes, the mix beside it; with --realtime also device[:NAME]."),
    ],
    instrument: Annotated[str, typer.Option("--instrument", help="Who plays, such as Bass or drums.")],
    context: typer.Context,
    seed: Annotated[int, typer.Option("--seed", help="Decides what is sampled; the same seed plays the same.")] = 0,
    chunk: Annotated[
        float | None, typer.Option("--chunk", metavar="MS", help="Milliseconds fed at a time; a codec frame otherwise.")
    ] = None,
    condition: Labels = None,
    guidance: Scales = None,
    runtime: Runtimes = None,
    metronome: Annotated[
        str,
        typer.Option(
            "--metronome",
            metavar="BEATS",
            help="A silent count: 120bpm, 90bpm/3, 120bpm@0.35, a file of beats, follow (a tracker, in the input), or "
            "off; where not given, a model with an ear hears it by itself, and others follow.",
        ),
    ] = "auto",
    chart: Annotated[
        str,
        typer.Option(
            "--chart",
            metavar="CHORDS",
            help="What will be played: 'C Am F G', a text file, follow (a recognizer, in the input), or off; where not "
            "given, a model with an ear hears it by itself, and others follow.",
        ),
    ] = "auto",
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Play by the clock on the wall: to a file, or at a sound device.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --realtime: play though this machine is too slow for the model.")
    ] = False,
) -> None:
    """Accompany an audio file with the live runtime; prints the real-time factor and the latency budget."""
    from accomp.core.generation.stream import StreamRequest, stream
    from accomp.core.generation.timeline_options import TimelineOptions

    wanted = StreamRequest(
        find_model(run, context.obj),
        input,
        output,
        instrument,
        seed=seed,
        chunk=chunk,
        conditions=tuple(condition or ()),
        guidance=scales(guidance),
        runtime=tuple(runtime or ()),
        timelines=TimelineOptions(metronome, chart),
    )
    if realtime:
        from accomp.core.realtime.live import stream_live

        stream_live(wanted, context.obj, force=force)
        return
    if force:
        raise UserError("--force plays what this machine is too slow for; it goes with --realtime")
    stream(wanted, context.obj)


@app.command("compile", rich_help_panel=PLAY)
def compile_command(
    run: ModelName,
    context: typer.Context,
    slots: Annotated[
        list[int] | None,
        typer.Option("--slots", min=1, help="Sessions of a server at a time; repeatable. 1 otherwise."),
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="The training step as well.")] = False,
    runtime: Runtimes = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto, instead of the run's.")] = None,
) -> None:
    """Compile what plays in a run once, and keep it beside the run, so that playing starts at once."""
    from accomp.core.generation.compile_run import compile_run

    folder = find_model(run, context.obj)
    compile_run(folder, context.obj, slots=slots or (1,), training=train, runtime=tuple(runtime or ()), device=device)


@app.command("layer", rich_help_panel=PLAY)
def layer_command(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Whose model plays (a run folder, a name of `accomp models`); another one each time if you like.",
        ),
    ] = None,
    audio: Annotated[
        Path | None, typer.Option("--context", metavar="WAV", help="The audio to begin with; a copy of it is kept.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="The tree of all that is made; else layers/NAME of the context."),
    ] = None,
    instrument: Annotated[
        str | None,
        typer.Option("--instrument", metavar="NAME", help="Makes one round of variations, to --choose from later."),
    ] = None,
    auto: Annotated[
        str | None,
        typer.Option("--auto", metavar="NAMES", help="Bass,Drums,Piano: takes the first variation of each."),
    ] = None,
    choose: Annotated[
        str | None, typer.Option("--choose", metavar="NODE", help="Chooses a variation, to go on from.")
    ] = None,
    parent: Annotated[
        str | None,
        typer.Option(
            "--parent",
            metavar="NODE",
            help="What is played to: a node (its beginning is enough), root (the context), or last (chosen last). "
            "Where not given: last, with --auto root.",
        ),
    ] = None,
    variations: Annotated[
        int | None,
        typer.Option("--variations", min=1, help="How many of each layer there shall be: 4, with --auto 1."),
    ] = None,
    stems: Annotated[
        int | None, typer.Option("--stems", min=1, help="Of how many stems the --context is a mixture: 1.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides what is sampled; the same seed plays the same.")] = 0,
    condition: Labels = None,
    guidance: Scales = None,
) -> None:
    """Build a song layer by layer: hear variations of a stem, choose one, go on from there.

    Without --instrument, --auto or --choose it asks at the terminal. What is there is not made again.
    """
    from accomp.core.layering import LayerRequest, layer, terminal

    wish = LayerRequest(
        folder=out,
        context=audio,
        stems=stems,
        choose=choose,
        instrument=instrument,
        auto=[] if auto is None else auto.split(","),
        parent=parent,
        variations=variations,
        seed=seed,
        conditions=condition or (),
        guidance=scales(guidance),
    )
    layer(None if run is None else find_model(run, context.obj), context.obj, wish, ask=terminal())
