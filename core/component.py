"""One named part of accomp or of another package, before its code is imported."""

from __future__ import annotations

import importlib
from typing import Any

from attrs import field, frozen

from accomp.core.errors import PluginError
from accomp.core.third_party import contained

KINDS = (
    "corpus", "tokenizer", "fuser", "backbone", "objective", "sampler", "metric", "embedder", "follower", "command",
    "model",
)  # fmt: skip
"""What a component can be. A "command" is a typer function that becomes a line of `accomp`, a "model" a function that
gives the folder of a trained model (core/runs/models.py)."""


@frozen
class Component:
    """One named part. `target` is "module:attribute", imported on first use.

    Attributes:
        kind: one of KINDS.
        name: unique within its kind; a command's name may be two words, "group command".
        summary: one line for `accomp plugins`.
        extra: the optional dependency group of its distribution that brings its libraries; "" where it needs none.
        provider: the distribution and version it comes from; filled in by the registry.
    """

    kind: str
    name: str
    target: str
    summary: str = ""
    extra: str = ""
    provider: str = field(default="", eq=False)

    def load(self) -> Any:
        """The class or function. Raises PluginError, naming the extra to install, when a library is missing."""
        module, _, attribute = self.target.partition(":")
        where = f"{self.kind} {self.name!r} of {self.provider or 'an unregistered plugin'}"
        try:
            with contained(where):
                return getattr(importlib.import_module(module), attribute)
        except PluginError as error:
            raise PluginError(f"{where} cannot be loaded from {self.target}: {error}") from error
        except ModuleNotFoundError as error:
            if self.extra and error.name and error.name.partition(".")[0] != module.partition(".")[0]:
                package = self.provider.partition(" ")[0] or "accomp"
                raise PluginError(
                    f"{where} needs the library {error.name!r}; run: pip install '{package}[{self.extra}]'"
                ) from error
            raise PluginError(f"{where} cannot be loaded from {self.target}: {error}") from error
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise PluginError(
                f"{where} cannot be loaded from {self.target}: {why}; `accomp doctor` may know"
            ) from error
