"""Options that several commands of `accomp bench` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SpecName = Annotated[
    str | None, typer.Argument(metavar="[SPEC]", help="A spec file or the name of a shipped one, at its own size.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides one key of the spec: --set model.width=256."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps or auto, instead of the spec's [run].")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads, instead of the spec's [run].")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Where the record is written.")]
Before = Annotated[
    Path | None, typer.Option("--compare", metavar="FILE", help="An earlier record: how often as much is each figure?")
]
Variants = Annotated[
    list[str] | None, typer.Option("--variant", help="A way to run the model; repeatable. All of them otherwise.")
]
Profile = Annotated[
    bool, typer.Option("--profile", help="Print where the time goes as well: kernels by time, on a CPU operators.")
]
Paced = Annotated[bool, typer.Option("--paced", help="A step when its input comes, as live, not at full speed.")]
