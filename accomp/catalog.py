"""The plugins of this environment, and the conformance kit."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from accomp.core.console import warn
from accomp.core.registry import Registry


@frozen
class Plugin:
    """A plugin that is installed.

    Attributes:
        kind: such as "sampler".
        name: unique within its kind; the value of `plugin` in a spec.
        provider: the distribution that it comes from, with its version.
        summary: one line.
    """

    kind: str
    name: str
    provider: str
    summary: str


def registry() -> Registry:
    """All components of this environment. Warn of each package that cannot be used."""
    found = Registry()
    for provider, why in found.broken.items():
        warn(f"{provider} could not be used: {why}")
    return found


def plugins(kind: str | None = None) -> list[Plugin]:
    """List the installed plugins, built in or from other packages, by kind and name.

    Args:
        kind: Only this kind: "sampler", "metric", "tokenizer" and so on.

    Returns:
        One `Plugin` each.

    Raises:
        UserError: No kind has that name.

    Example:
        >>> [plugin.name for plugin in accomp.plugins("fuser")]
    """
    return listed(registry(), kind)


def listed(components: Registry, kind: str | None = None) -> list[Plugin]:
    """The plugins of a registry, as `plugins` gives them."""
    return [Plugin(row.kind, row.name, row.provider, row.summary) for row in components.components(kind)]


def check_plugin(kind: str, name: str, **config: Any) -> list[str]:
    """Check that a plugin keeps the promises of its kind, on the CPU, at small sizes.

    Args:
        kind: Such as "sampler".
        name: Its name within that kind.
        **config: Keys of the plugin's Config, as a spec gives them.

    Returns:
        The properties that hold, one line each.

    Raises:
        UserError: One line for each property that does not hold; or no such plugin can be loaded.

    Example:
        >>> accomp.check_plugin("sampler", "top_k", k=20)
    """
    from accomp.core.testing import check_plugin as check

    return check(kind, name, registry(), **config)
