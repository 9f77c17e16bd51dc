"""Embedders by name, for metrics that compare sets of clips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accomp.core.errors import PluginError
from accomp.core.interfaces import Embedder
from accomp.core.registry import Registry
from accomp.core.spec.parsing import Problems, strict_converter, structure_fields


def build_embedder(choice: str | Mapping[str, Any], registry: Registry, *, where: str) -> Embedder:
    """Build the embedder NAME, or that of a table {plugin = NAME, ...} with its own keys; `where` is part of errors.

    Raises PluginError for an unknown one, for invalid keys, and where its library or weights are missing.
    """
    table = {"plugin": choice} if isinstance(choice, str) else dict(choice)
    name = table.pop("plugin", None)
    if not isinstance(name, str):
        known = ", ".join(registry.names("embedder")) or "none"
        raise PluginError(f"missing key 'plugin', the name of an embedder; known: {known} @ {where}")
    cls = registry.find("embedder", name).load()
    try:
        config = structure_fields(strict_converter(), table, cls.Config)
    except Problems as problems:
        raise PluginError(
            *(f"{'.'.join(map(str, path)) or 'embedder'}: {text} @ {where}" for path, text in problems.found)
        ) from None
    return cls(config=config)
