"""Checks of every kind: the plugin loads, has a docstring and a frozen Config, and has no side effects."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from attrs import frozen

from accomp.core.component import Component
from accomp.core.errors import PluginError
from accomp.core.spec.parsing import Problems, plain, strict_converter, structure_fields
from accomp.core.testing.results import Findings, Mismatch, expect
from accomp.core.types import TokenSpace

SPACE = TokenSpace(sample_rate=8000, hop=160, codebooks=3, codebook_size=20, latent_dim=10)
"""Code format of the checks of fusers, backbones, objectives, samplers and metrics."""
WIDTH = 32
"""D of the tested models."""


@frozen
class PluginUnderTest:
    """The plugin under test: its class (or function, for a command or a model) and its Config."""

    cls: Any
    config: Any

    def build(self, **arguments: Any) -> Any:
        """Build an instance. Its random weights are the same each time, and torch's generator is left unchanged."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.cls(config=self.config, **arguments)


def subject(
    component: Component, config: Mapping[str, Any], folder: Path, findings: Findings
) -> PluginUnderTest | None:
    """Load the plugin; None where that fails. Raises PluginError where it cannot be imported."""
    cls = component.load()
    with findings.property("has a docstring"):
        expect(bool((cls.__doc__ or "").strip()), "there is none")
    if component.kind in ("command", "model"):
        if config:
            raise PluginError(f"a {component.kind} has no Config; {', '.join(config)} cannot be set")
        return PluginUnderTest(cls, None)
    with findings.property("Config is a frozen attrs class"):
        _check_config_class(cls)
    if not attrs.has(getattr(cls, "Config", None) or object):
        return None
    values = _config(cls, config, folder)
    with findings.property("Config survives being written to JSON and read back"):
        written = json.loads(json.dumps(plain(values)))
        read = structure_fields(strict_converter(), written, cls.Config)
        expect(read == values, f"{values} came back as {read}")
    return PluginUnderTest(cls, values)


def _check_config_class(cls: Any) -> None:
    config: Any = getattr(cls, "Config", None)
    expect(config is not None, f"{cls.__name__} has no Config")
    expect(attrs.has(config), f"{cls.__name__}.Config is not an attrs class")
    expect(config.__setattr__ is attrs.make_class("Frozen", [], frozen=True).__setattr__, "it can be changed")
    expect("plugin" not in attrs.fields_dict(config), "a key named 'plugin' would hide the plugin's name in a spec")


def _config(cls: Any, given: Mapping[str, Any], folder: Path) -> Any:
    if not given and hasattr(cls, "example_config"):
        return cls.example_config(folder)
    try:
        return structure_fields(strict_converter(), given, cls.Config)
    except Problems as problems:
        give = "give the keys of its Config (on the command line: --config KEY=VALUE)"
        hint = "" if given else f"; {give}, or let the plugin offer example_config(folder)"
        raise PluginError(
            *(f"{'.'.join(map(str, path)) or 'Config'}: {text}{hint}" for path, text in problems.found)
        ) from None


@contextmanager
def no_side_effects(findings: Findings) -> Iterator[None]:
    """Check that the block leaves global random generators, default dtype and sys.argv unchanged."""
    before = _globals()
    yield
    with findings.property("touches no global random generator, default dtype or sys.argv"):
        if changed := [name for name, value in _globals().items() if value != before[name]]:
            raise Mismatch(f"changed {', '.join(changed)}")


def _globals() -> dict[str, Any]:
    return {
        "random's generator": random.getstate(),
        "numpy's generator": repr(np.random.get_state()),  # noqa: NPY002  # looked at, not drawn from
        "torch's generator": torch.get_rng_state().tolist(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "sys.argv": list(sys.argv),
    }


def generator(seed: int = 0) -> torch.Generator:
    """Return a seeded CPU generator."""
    return torch.Generator().manual_seed(seed)
