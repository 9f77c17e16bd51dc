"""The command line. Each command imports what it runs when it runs, so that help and mistakes come back at once.

What a failed command says, and its exit code: exits.py.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from accomp.core.bench.commands import bench
from accomp.core.cli.exit_codes import INTERRUPTED, exit_code
from accomp.core.cli.telemetry import switch_off
from accomp.core.console import say, warn
from accomp.core.errors import PluginError, UserError
from accomp.core.pipeline import run_stage
from accomp.core.registry import Registry
from accomp.core.runs.models import find_model
from accomp.core.serving.commands import jam_command, serve_command
from accomp.core.spec.schema import Spec, load_spec

app = typer.Typer(name="accomp", no_args_is_help=True, add_completion=False, rich_markup_mode=None)
store = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

SpecPath = Annotated[
    str, typer.Argument(metavar="SPEC", help="A spec file, or the name of a shipped one (quickstart).")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides one key of the spec, in TOML: --set train.steps=100."),
]
Scales = Annotated[
    list[str] | None,
    typer.Option(
        "--guidance",
        metavar="CONDITION=SCALE",
        help="How closely the model heeds what it is told, instead of the run's guidance: --guidance context=2.",
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--condition", metavar="NAME=VALUE", help="What else the model is told: --condition genre=jazz."),
]
StorePath = Annotated[str, typer.Argument(metavar="STORE", help="A token store: a folder, or s3://bucket/name.")]
ModelName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Whose model plays: a run folder, a name of `accomp models`, hub:owner/repo."),
]
Borrowed = Annotated[
    str | None,
    typer.Option("--model", metavar="RUN", help="Plays this model (`accomp models`) instead of training one."),
]
RunFolder = Annotated[str | None, typer.Option("--run", metavar="FOLDER", help="Run folder, instead of the spec's.")]


@app.callback()
def accomp(
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an unexpected error.")] = False,
) -> None:
    """Streaming music accompaniment: experiments from spec files, parts from plugins."""


@app.command("doctor")
def doctor_command(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """What this machine can do, what is missing, and the cure."""
    from accomp.core.cli.doctor import doctor

    raise typer.Exit(doctor(context.obj, as_json=as_json))


@app.command("plugins")
def plugins_command(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Every plugin found: kind, name, provider, summary."""
    registry: Registry = context.obj
    rows = registry.components(kind)
    if as_json:
        say(json.dumps([{key: getattr(row, key) for key in ("kind", "name", "provider", "summary")} for row in rows]))
        return
    widths = [max((len(getattr(row, key)) for row in rows), default=0) for key in ("kind", "name", "provider")]
    for row in rows:
        cells = (row.kind, row.name, row.provider)
        say("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + f"  {row.summary}")


@app.command("check")
def check_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Validate a spec: keys, types, ranges, plugins, and whether the parts fit together. Runs nothing."""
    loaded = _load(context, spec, settings, run)
    from accomp.core.spec.build import check_combination

    check_combination(loaded, context.obj)
    say(f"{spec} is in order")


@app.command("check-plugin")
def check_plugin_command(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND")],
    name: Annotated[str, typer.Argument(metavar="NAME")],
    config: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A key of the plugin's Config, in TOML.")
    ] = None,
) -> None:
    """The conformance kit: does a plugin keep the promises of its kind?"""
    from accomp.core.spec.toml_files import override
    from accomp.core.testing import check_plugin

    values: dict[str, Any] = {}
    override(values, config or ())
    for line in check_plugin(kind, name, context.obj, **values):
        say(f"ok  {line}")


@app.command("ingest")
def ingest_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Tokenize the corpus into the store."""
    _stages(context, spec, settings, run, "ingest")


@app.command("train")
def train_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Train the model; goes on from the last checkpoint."""
    _stages(context, spec, settings, run, "train")


@app.command("generate")
def generate_command(
    context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None, model: Borrowed = None
) -> None:
    """Stream accompaniments for held-out songs."""
    _stages(context, spec, settings, run, "generate", model=model)


@app.command("evaluate")
def evaluate_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Judge the accompaniments, beside the anchors."""
    _stages(context, spec, settings, run, "evaluate")


@app.command("report")
def report_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Write the run's report page."""
    _stages(context, spec, settings, run, "report")


@app.command("run")
def run_command(
    context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None, model: Borrowed = None
) -> None:
    """All stages of one experiment. What is already done is not done again."""
    learning = () if model else ("train",)
    _stages(context, spec, settings, run, "ingest", *learning, "generate", "evaluate", "report", model=model)


@app.command("models")
def models_command(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="All that is known of this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Trained models that come along, to name wherever a RUN is asked for."""
    from accomp.core.cli.model_commands import models

    models(context.obj, name, as_json=as_json)


@app.command("export")
def export_command(
    context: typer.Context,
    run: ModelName,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A folder that is not there yet.")],
    card: Annotated[
        Path | None, typer.Option("--card", metavar="JSON", help='What is known of the model, a "summary" at least.')
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Keep the weights' precision; otherwise float16.")] = False,
) -> None:
    """Write the model of a run, and nothing else of it, into a folder of its own."""
    from accomp.core.runs.export import export

    export(find_model(run, context.obj), out, card=card, whole=whole)


@app.command("compare")
def compare_command(
    context: typer.Context,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, judged on the same clips.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page; .csv and .json go beside it.")] = Path(
        "comparison.html"
    ),
    answers: Annotated[
        list[Path] | None, typer.Option("--answers", metavar="CSV", help="What listeners saved on an earlier page.")
    ] = None,
) -> None:
    """One page about several runs: scores, tests, what can be played live, players side by side, blind listening."""
    from accomp.core.comparison import compare

    compare(runs, context.obj, out, answers or ())


@app.command("grid")
def grid_command(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A grid file, or the name of a shipped one (mini_grid).")],
    plan: Annotated[
        bool, typer.Option("--plan", help="Tell cells, cost and disk, what is done and what is wrong; run nothing.")
    ] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="With --plan: time some steps of each kind of model on this machine.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the page anew from what the grid's folder holds; run nothing.")
    ] = False,
    run: Annotated[
        str | None, typer.Option("--run", metavar="FOLDER", help="The grid's folder, instead of the file's.")
    ] = None,
) -> None:
    """A grid of experiments: every cell trained, played and judged. What is already done is not done again."""
    from accomp.core.grid import grid

    raise typer.Exit(grid(spec, context.obj, folder=run, plan=plan, calibrate=calibrate, report_only=report_only))


@app.command("stream")
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
    instrument: Annotated[str, typer.Option("--instrument", help="Who plays: an instrument class, such as Bass.")],
    context: typer.Context,
    seed: Annotated[int, typer.Option("--seed", help="Decides what is sampled; the same seed plays the same.")] = 0,
    chunk: Annotated[
        float | None, typer.Option("--chunk", metavar="MS", help="Milliseconds fed at a time; a codec frame otherwise.")
    ] = None,
    condition: Labels = None,
    guidance: Scales = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime", metavar="KEY=VALUE", help="Of [runtime], instead of the run's: compile=on, weights=w8a8."
        ),
    ] = None,
    metronome: Annotated[
        str,
        typer.Option(
            "--metronome",
            metavar="BEATS",
            help="A silent count: 120bpm, 90bpm/3, 120bpm@0.35, a file of beats, follow (the input), or off; where not "
            "given it is followed, if the model takes one.",
        ),
    ] = "auto",
    chart: Annotated[
        str,
        typer.Option(
            "--chart",
            metavar="CHORDS",
            help="What will be played: 'C Am F G', a text file, follow (what is heard), or off; where not given it is "
            "followed, if the model takes one.",
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
        guidance=_scales(guidance),
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


@app.command("layer")
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
        typer.Option("--auto", metavar="NAMES", help="Bass,Percussive,Piano: takes the first variation of each."),
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
        guidance=_scales(guidance),
    )
    layer(None if run is None else find_model(run, context.obj), context.obj, wish, ask=terminal())


@store.command("inspect")
def store_inspect_command(
    path: StorePath, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """What a token store holds: songs and hours by split, tokenizer, labels, bytes an example."""
    from accomp.core.data.store_commands import inspect

    inspect(path, as_json=as_json)


@store.command("verify")
def store_verify_command(
    path: StorePath,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take broken songs out, so that the next ingest makes them again.")
    ] = False,
) -> None:
    """Compare every file with its checksum, and list the songs to be ingested again; exit code 1 if there are."""
    from accomp.core.data.store_commands import verify

    raise typer.Exit(verify(path, mend=remove))


def _scales(words: list[str] | None) -> dict[str, float] | None:
    """CONDITION=SCALE as numbers by name; None where nothing is given. Raises UserError, with every mistake."""
    problems: list[str] = []
    scales: dict[str, float] = {}
    for word in words or ():
        name, _, text = (part.strip() for part in word.partition("="))
        try:
            scale = float(text)
        except ValueError:
            scale = math.nan
        if not name or not math.isfinite(scale):
            problems.append(f"expected CONDITION=SCALE, as in context=2 @ --guidance {word}")
        elif name in scales:
            problems.append(f"{name!r} is given twice @ --guidance {word}")
        scales[name] = scale
    if problems:
        raise UserError(*problems)
    return scales if words else None


def _load(context: typer.Context, path: str, settings: list[str] | None, run: str | None) -> Spec:
    overrides = [*(settings or ()), *([f"run.folder={json.dumps(run)}"] if run is not None else ())]
    return load_spec(path, context.obj, overrides)


def _stages(
    context: typer.Context,
    path: str,
    settings: list[str] | None,
    run: str | None,
    *stages: str,
    model: str | None = None,
) -> None:
    """Check the whole spec, open its run folder, have it play `model` if one is named, then run the stages in order."""
    registry: Registry = context.obj
    spec = _load(context, path, settings, run)
    from accomp.core.runs.folder import borrow_model, model_folder, run_of
    from accomp.core.spec.build import check_combination

    check_combination(spec, registry)
    lender = None if model is None else find_model(model, registry)
    with run_of(spec) as folder:
        if lender is not None:
            borrow_model(folder, model_folder(lender))
        for stage in stages:
            run_stage(stage, spec, registry, folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (sys.argv where none is given) and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    switch_off()
    for stream in (sys.stdout, sys.stderr):  # a path may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        registry = Registry()
        for provider, why in registry.broken.items():
            warn(f"{provider} could not be used: {why}")
        command = typer.main.get_command(with_plugin_commands(registry, words))
        result = command.main(args=words, prog_name="accomp", obj=registry, standalone_mode=False)
        if result == INTERRUPTED:  # typer has swallowed a KeyboardInterrupt
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except Exception as error:
        return exit_code(error, debug=words[:1] == ["--debug"])
    except KeyboardInterrupt as error:
        return exit_code(error, debug=False)


def with_plugin_commands(registry: Registry, words: Sequence[str]) -> typer.Typer:
    """The application with a line for every component of kind "command"; only the one that is called is imported.

    A component "corpus mini-slakh" becomes `accomp corpus mini-slakh`, one named "tune" becomes `accomp tune`.
    Raises PluginError for a name that is one of our own commands or has more than two words.
    """
    whole = typer.Typer(name="accomp", no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    whole.callback()(accomp)
    whole.registered_commands = list(app.registered_commands)
    whole.command("jam")(jam_command)
    whole.command("serve")(serve_command)
    whole.add_typer(store, name="store", help="Look into a token store; find out what has rotted.")
    whole.add_typer(bench, name="bench", help="How fast the runtime is on this machine.")
    own = {command.name for command in whole.registered_commands} | {"store", "bench"}
    called = " ".join([word for word in words if not word.startswith("-")][:2]) + " "
    groups: dict[str, typer.Typer] = {}
    for component in registry.components("command"):
        first, *rest = component.name.split()
        if first in own or len(rest) > 1:
            raise PluginError(
                f"command {component.name!r} of {component.provider} would hide or nest a command of accomp"
            )
        if rest and first not in groups:
            groups[first] = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
        function = component.load() if called.startswith(f"{component.name} ") else _unused
        parent = groups[first] if rest else whole
        parent.command(component.name.split()[-1], help=None if function is not _unused else component.summary)(
            function
        )
    for name, group in groups.items():
        members = ", ".join(command.name or "" for command in group.registered_commands)
        whole.add_typer(group, name=name, help=f"Commands of plugins: {members}.")
    return whole


def _unused() -> None:
    """Stands for a plugin's command in the help of its group, where nothing is run."""


if __name__ == "__main__":
    sys.exit(main())
