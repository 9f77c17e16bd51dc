"""One self-contained page for a run."""

from __future__ import annotations

from pathlib import Path

from accomp.core.console import say
from accomp.core.files import write_atomic
from accomp.core.registry import Registry
from accomp.core.report.data import read_run
from accomp.core.report.page import page
from accomp.core.spec.schema import Spec


def write_report(spec: Spec, registry: Registry, run: Path) -> Path:
    """Write run/report.html from the records in the run folder, whichever stages have run; returns its path.

    Raises DataError where records are missing or broken. Calls the hook `accomp_report`.
    """
    report = run / "report.html"
    write_atomic(report, page(read_run(run)))
    registry.tell("accomp_report", run=run, report=report)
    say(f"report: {report} ({report.stat().st_size / 2**20:.1f} MiB)")
    return report
