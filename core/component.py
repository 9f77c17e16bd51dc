"""Registry entry of a plugin, available before its code is imported."""

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
"""Kinds of components. A "command" is a typer function that becomes a subcommand of `accomp`; a "model" is a function
that returns the folder of a trained model (core/runs/models.py).
"""


@frozen
class Component:
    """A plugin by name. Its target is imported on first use.

    Attributes:
        kind: one of KINDS.
        name: unique within its kind; a command's name may be two words, "group command".
        target: "module:attribute".
        summary: one line for `accomp plugins`.
        extra: optional dependency group of its distribution that installs its libraries; "" where it needs none.
        provider: distribution and version that it comes from; set by the registry.

    Example:
        Component("sampler", "argmax", "accomp_argmax:Argmax", "greedy decoding")
    """

    kind: str
    name: str
    target: str
    summary: str = ""
    extra: str = ""
    provider: str = field(default="", eq=False)

    def load(self) -> Any:
        """Import the class or function.

        Returns:
            The attribute that `target` names.

        Raises:
            PluginError: the import fails; names the extra to be installed where a library is missing.
        """
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
