"""`accomp compare`: models and anchors beside each other on one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accomp.core.comparison.blind import read_answers, verdict
from accomp.core.comparison.entries import read_entries
from accomp.core.comparison.page import UNKNOWN, Comparison, page
from accomp.core.console import say
from accomp.core.files import write_atomic
from accomp.core.pages.claims import word
from accomp.core.registry import Registry


def compare(runs: Sequence[Path], registry: Registry, out: Path, answers: Sequence[Path] = ()) -> None:
    """Write the comparison of run folders to `out` (.html), and its numbers beside it (.csv, .json).

    `answers`: CSV files that listeners saved on the page. Raises DataError for a folder without a run, runs that were
    judged on different clips, and answers that cannot be read.
    """
    given = read_answers(answers)
    title = f"Comparison of {len(runs)} runs"
    write_comparison(Comparison(title, read_entries(runs, registry), answers=given), out)


def write_comparison(comparison: Comparison, out: Path) -> None:
    """The page, and its numbers beside it."""
    write_atomic(out, page(comparison))
    write_atomic(out.with_suffix(".csv"), comparison.csv)
    write_atomic(out.with_suffix(".json"), comparison.json)
    for one in comparison.found:
        say(f"{one.claim}: {word(one.holds, UNKNOWN)} ({one.evidence})")
    if comparison.answers:
        judged = verdict(comparison.answers, comparison.rng())
        for name, share in judged.share.items():
            say(f"blind listening: {name} won {share:.0%} of {judged.trials[name]}")
        if judged.test is not None:
            say(f"blind listening: Kruskal-Wallis H = {judged.test.h:.2f}, p = {judged.test.p:.3g}")
    say(f"comparison: {out} ({out.stat().st_size / 2**20:.1f} MiB), {out.with_suffix('.csv').name} and "
        f"{out.with_suffix('.json').name} beside it")  # fmt: skip
