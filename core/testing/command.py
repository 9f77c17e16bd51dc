"""Checks of commands: a help text, and types that typer supports."""

from __future__ import annotations

import inspect

import typer

from accomp.core.testing.common import PluginUnderTest
from accomp.core.testing.results import Findings, expect


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of a command."""
    function = subject.cls
    with findings.property("is a function whose every parameter is annotated"):
        expect(inspect.isfunction(function), f"{function!r} is not a function")
        bare = [
            p.name for p in inspect.signature(function).parameters.values() if p.annotation is inspect.Parameter.empty
        ]
        expect(not bare, f"no annotation on {', '.join(bare)}")
    with findings.property("typer makes a command of it"):
        app = typer.Typer()
        app.command()(function)
        typer.main.get_command(app)
