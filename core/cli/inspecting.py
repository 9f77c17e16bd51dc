"""Commands that show what there is: this machine, plugins, models, token stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import attrs
import typer

from accomp.catalog import listed
from accomp.core.cli.experiments import run_stages
from accomp.core.cli.options import ModelName, RunFolder, Settings, SpecPath, StorePath
from accomp.core.cli.panels import CORPORA, INSPECT
from accomp.core.console import say
from accomp.core.runs.models import find_model

app = typer.Typer()
store = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("doctor", rich_help_panel=INSPECT)
def doctor_command(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """What this machine can do, what is missing, and the cure."""
    from accomp.core.cli.doctor import doctor

    raise typer.Exit(doctor(context.obj, as_json=as_json))


@app.command("plugins", rich_help_panel=INSPECT)
def plugins_command(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Every plugin found: kind, name, provider, summary."""
    rows = listed(context.obj, kind)
    if as_json:
        say(json.dumps([attrs.asdict(row) for row in rows]))
        return
    widths = [max((len(getattr(row, key)) for row in rows), default=0) for key in ("kind", "name", "provider")]
    for row in rows:
        cells = (row.kind, row.name, row.provider)
        say("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + f"  {row.summary}")


@app.command("check-plugin", rich_help_panel=INSPECT)
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


@app.command("models", rich_help_panel=INSPECT)
def models_command(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="All that is known of this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Trained models that come along, to name wherever a RUN is asked for."""
    from accomp.core.cli.model_commands import models

    models(context.obj, name, as_json=as_json)


@app.command("export", rich_help_panel=INSPECT)
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


@app.command("ingest", rich_help_panel=CORPORA)
def ingest_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Tokenize the corpus into the store."""
    run_stages(context, spec, settings, run, "ingest")


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
