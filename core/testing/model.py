"""Checks of trained models: a run folder whose weights load, and a card."""

from __future__ import annotations

from pathlib import Path

from accomp.core.registry import Registry
from accomp.core.runs.checkpoint import load_run
from accomp.core.runs.models import card_of
from accomp.core.testing.common import PluginUnderTest
from accomp.core.testing.results import Findings, expect


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of a model."""
    with findings.property("gives a folder"):
        folder = subject.cls()
        expect(isinstance(folder, Path) and folder.is_dir(), f"it gives {folder!r}")
    if findings.failed:
        return
    with findings.property("its card has a summary"):
        summary = card_of(folder).get("summary")
        expect(isinstance(summary, str) and bool(summary.strip()), f"summary is {summary!r}")
    with findings.property("its newest checkpoint loads, with the tokenizer it was trained with"):
        load_run(folder, Registry())
