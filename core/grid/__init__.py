"""Grids of experiments: plan, run, resume, page. File format: core/spec/grid_schema.py."""

from __future__ import annotations

from pathlib import Path

from accomp.core.console import say
from accomp.core.errors import UserError
from accomp.core.registry import Registry
from accomp.core.spec.grid import load_grid


def grid(
    path: str,
    registry: Registry,
    *,
    folder: str | None = None,
    plan: bool = False,
    calibrate: bool = False,
    report_only: bool = False,
) -> int:
    """Plan or run a grid file, or write its page; return the exit code.

    Raises SpecError with every mistake in the file, UserError for incompatible options.
    """
    if calibrate and not plan:
        raise UserError("--calibrate measures the costs of a grid; give it together with --plan")
    if plan and report_only:
        raise UserError("give either --plan or --report-only")
    loaded = load_grid(path, registry, folder)
    if report_only:
        _report(loaded.folder)
        return 0
    from accomp.core.grid.work import work_of

    work = work_of(loaded)
    if not plan:
        from accomp.core.grid.running import run_grid

        code = run_grid(work, registry)
        _report(loaded.folder)
        return code
    if calibrate:
        from accomp.core.grid.calibrating import calibrate as measure

        measure(work, registry)
    from accomp.core.grid.plan import plan as planned

    for line in planned(work, registry):
        say(line)
    return 0


def _report(folder: Path) -> None:
    """Write GRID/report.html from GRID/grid.json and the folders that it names. Raises DataError where there is
    none.
    """
    from accomp.core.comparison import write_comparison
    from accomp.core.comparison.grids import grid_comparison

    write_comparison(grid_comparison(folder), folder / "report.html")
