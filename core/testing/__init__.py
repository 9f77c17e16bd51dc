"""Conformance kit for plugins. It runs on the CPU, at tiny sizes, in seconds.

The checks of a kind are the properties in that kind's module, in order; `accomp check-plugin KIND NAME` prints them. A
plugin whose defaults are too large, or that needs files, offers

    @classmethod
    def example_config(cls, folder: Path) -> Config: ...

small settings for the kit; `folder` is empty and temporary, for files that they need.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accomp.core import console  # noqa: F401  # rich draws a random number at import: no plugin is to blame for it
from accomp.core.component import Component
from accomp.core.errors import PluginError
from accomp.core.registry import Registry
from accomp.core.testing import (
    backbone,
    command,
    common,
    corpus,
    embedder,
    follower,
    fuser,
    metric,
    model,
    objective,
    sampler,
    tokenizer,
)
from accomp.core.testing.results import Findings

CHECKS: dict[str, Callable[[common.PluginUnderTest, Findings], None]] = {
    "corpus": corpus.check,
    "tokenizer": tokenizer.check,
    "fuser": fuser.check,
    "backbone": backbone.check,
    "objective": objective.check,
    "sampler": sampler.check,
    "metric": metric.check,
    "embedder": embedder.check,
    "follower": follower.check,
    "command": command.check,
    "model": model.check,
}


def check_plugin(kind: str, name: str, registry: Registry | None = None, /, **config: Any) -> list[str]:
    """Run the conformance kit on a registered plugin; `config` are keys of its Config, as in a spec file.

    Returns the properties, which all hold. Raises PluginError with one line for every violated property, and for a
    plugin that is unknown or cannot be loaded.
    """
    return check_component((registry or Registry()).find(kind, name), **config)


def check_component(component: Component, /, **config: Any) -> list[str]:
    """Run the conformance kit on a component that need not be registered; see check_plugin."""
    findings = Findings()
    with tempfile.TemporaryDirectory() as folder, common.no_side_effects(findings):
        subject = common.subject(component, config, Path(folder), findings)
        if subject is not None:
            CHECKS[component.kind](subject, findings)
    if findings.failed:
        where = f"{component.kind} {component.name} ({component.target})"
        raise PluginError(*(f"{problem} @ {where}" for problem in findings.failed))
    return findings.held
