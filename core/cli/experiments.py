"""The stages of experiments, and what judges and compares runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accomp.core.cli.options import Borrowed, RunFolder, Settings, SpecPath, load
from accomp.core.cli.panels import TRAIN
from accomp.core.console import say

app = typer.Typer()


@app.command("check", rich_help_panel=TRAIN)
def check_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Validate a spec: keys, types, ranges, plugins, and whether the parts fit together. Runs nothing."""
    loaded = load(context, spec, settings, run)
    from accomp.core.spec.build import check_combination

    check_combination(loaded, context.obj)
    say(f"{spec} is in order")


@app.command("train", rich_help_panel=TRAIN)
def train_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Train the model; goes on from the last checkpoint."""
    run_stages(context, spec, settings, run, "train")


@app.command("generate", rich_help_panel=TRAIN)
def generate_command(
    context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None, model: Borrowed = None
) -> None:
    """Stream accompaniments for held-out songs."""
    run_stages(context, spec, settings, run, "generate", model=model)


@app.command("evaluate", rich_help_panel=TRAIN)
def evaluate_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Judge the accompaniments, beside the anchors."""
    run_stages(context, spec, settings, run, "evaluate")


@app.command("report", rich_help_panel=TRAIN)
def report_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Write the run's report page."""
    run_stages(context, spec, settings, run, "report")


@app.command("run", rich_help_panel=TRAIN)
def run_command(
    context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None, model: Borrowed = None
) -> None:
    """All stages of one experiment. What is already done is not done again."""
    learning = () if model else ("train",)
    run_stages(context, spec, settings, run, "ingest", *learning, "generate", "evaluate", "report", model=model)


@app.command("choose", rich_help_panel=TRAIN)
def choose_command(context: typer.Context, spec: SpecPath, settings: Settings = None, run: RunFolder = None) -> None:
    """Let each kept checkpoint play some takes; the one that plays best plays from now on."""
    run_stages(context, spec, settings, run, "choose")


@app.command("compare", rich_help_panel=TRAIN)
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


@app.command("grid", rich_help_panel=TRAIN)
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


def run_stages(
    context: typer.Context,
    path: str,
    settings: list[str] | None,
    run: str | None,
    *stages: str,
    model: str | None = None,
) -> None:
    """Load a spec and run some of its stages in order."""
    spec = load(context, path, settings, run)
    from accomp.experiment import run_stages as run_them

    run_them(spec, *stages, model=model, registry=context.obj)
