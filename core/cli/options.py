"""Arguments and options that several commands share."""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer

from accomp.core.errors import UserError
from accomp.core.spec.schema import Spec, load_spec

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
        help="Scale of classifier-free guidance for a condition, or for several together, instead of the run's: "
        "--guidance context=2, --guidance metronome+chart=2.",
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--condition", metavar="NAME=VALUE", help="A label of the model: --condition genre=jazz."),
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


def scales(words: list[str] | None) -> dict[str, float] | None:
    """CONDITION=SCALE as numbers by name; None where nothing is given. Raises UserError, with every mistake."""
    problems: list[str] = []
    found: dict[str, float] = {}
    for word in words or ():
        name, _, text = (part.strip() for part in word.partition("="))
        try:
            scale = float(text)
        except ValueError:
            scale = math.nan
        if not name or not math.isfinite(scale):
            problems.append(f"expected CONDITION=SCALE, as in context=2 @ --guidance {word}")
        elif name in found:
            problems.append(f"{name!r} is given twice @ --guidance {word}")
        found[name] = scale
    if problems:
        raise UserError(*problems)
    return found if words else None


def load(context: typer.Context, path: str, settings: list[str] | None, run: str | None) -> Spec:
    """The spec of a command line: a file with `--set` and `--run` on top."""
    overrides = [*(settings or ()), *([f"run.folder={json.dumps(run)}"] if run is not None else ())]
    return load_spec(path, context.obj, overrides)
