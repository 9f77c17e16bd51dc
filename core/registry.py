"""Registry of all components, built in and third-party.

The built-ins are rows of registry.toml, read by an internal pluggy plugin; other packages are pluggy plugins found
through the entry-point group "accomp". Both yield the same rows, and a row's code is imported on first use.
"""

from __future__ import annotations

import tomllib
from importlib import metadata, resources
from typing import Any

import attrs
import pluggy

from accomp.core import hooks
from accomp.core.component import KINDS, Component
from accomp.core.errors import PluginError
from accomp.core.names import nearest
from accomp.core.third_party import LONGEST, contained

BUILT_IN = "accomp (built in)"
RETIRED = "retired"
"""Table of registry.toml with the replacements of removed components."""


class _BuiltIns:
    """registry.toml as a pluggy plugin."""

    @hooks.hookimpl
    def accomp_components(self) -> list[Component]:
        kinds = _table()
        return [Component(kind, name, **row) for kind in kinds.keys() - {RETIRED} for name, row in kinds[kind].items()]


def _table() -> dict[str, Any]:
    path = resources.files("accomp") / "registry.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


class Registry:
    """All components of this environment.

    Attributes:
        pm: the pluggy manager; `tell` calls the hooks of packages.
        broken: provider -> reason why its plugin is unusable. Reported, never fatal.
    """

    def __init__(self, *, third_party: bool = True):
        """Load all components. Raises PluginError when two providers offer the same kind and name."""
        self.pm = pluggy.PluginManager(hooks.PROJECT)
        self.pm.add_hookspecs(hooks)
        self.broken: dict[str, str] = {}
        self._rows: dict[tuple[str, str], Component] = {}
        self.pm.register(_BuiltIns(), name=BUILT_IN)
        for entry in metadata.entry_points(group=hooks.PROJECT) if third_party else ():
            self._register(entry)
        for implementation in self.pm.hook.accomp_components.get_hookimpls():
            self._collect(implementation)

    def _register(self, entry: metadata.EntryPoint) -> None:
        provider = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        name = f"{provider} [{entry.name}]"
        try:
            with contained(provider, seconds=LONGEST):
                plugin = entry.load()
                self.pm.register(plugin, name=name)
                self._refuse_unknown_hooks(plugin)
        except Exception as error:
            self.broken[provider] = _reason(error)
            if self.pm.has_plugin(name):
                self.pm.unregister(name=name)

    def _refuse_unknown_hooks(self, plugin: object) -> None:
        """Check one plugin as pm.check_pending() does, and suggest the nearest hook name."""
        for caller in self.pm.get_hookcallers(plugin) or ():
            if not caller.has_spec():
                specified = [name for name, known in vars(self.pm.hook).items() if known.has_spec()]
                raise PluginError(f"no hook is called {caller.name!r}{nearest(caller.name, specified, what='hooks')}")

    def _collect(self, implementation: pluggy.HookImpl) -> None:
        provider = implementation.plugin_name.partition(" [")[0]
        try:
            with contained(provider, seconds=LONGEST):
                rows = [_checked(row) for row in implementation.function()]  # type: ignore[attr-defined]  # pluggy: object
        except Exception as error:
            if provider == BUILT_IN:
                raise
            self.broken[provider] = _reason(error)
            return
        for row in rows:
            if earlier := self._rows.get((row.kind, row.name)):
                raise PluginError(
                    f"{row.kind} {row.name!r} is provided twice, by {earlier.provider} and by {provider}; "
                    f"uninstall one of them, or rename it in one"
                )
            self._rows[row.kind, row.name] = attrs.evolve(row, provider=provider)

    def tell(self, hook: str, **values: Any) -> None:
        """Call a hook of every package that implements it, the last one registered first.

        Raises PluginError, with the name of the package, for any exception.
        """
        for implementation in reversed(getattr(self.pm.hook, hook).get_hookimpls()):
            who = implementation.plugin_name.partition(" [")[0]
            try:
                with contained(who):
                    implementation.function(*(values[name] for name in implementation.argnames))
            except Exception as error:
                raise PluginError(
                    f"hook {hook} of {who} raises {_reason(error)}; mend it, or uninstall the package"
                ) from error

    def components(self, kind: str | None = None) -> list[Component]:
        """Return all components, or those of one kind, ordered by kind and name. Raises PluginError for an unknown
        kind.
        """
        if kind is not None:
            _check_kind(kind)
        rows = [row for row in self._rows.values() if kind in (None, row.kind)]
        return sorted(rows, key=lambda row: (KINDS.index(row.kind), row.name))

    def names(self, kind: str) -> list[str]:
        """Return the names of one kind, sorted. Raises PluginError for an unknown kind."""
        return [row.name for row in self.components(kind)]

    def find(self, kind: str, name: str) -> Component:
        """Return the component of that kind and name. Raises PluginError, with the nearest name, for an unknown one."""
        names = self.names(kind)
        if name in names:
            return self._rows[kind, name]
        if why := _table().get(RETIRED, {}).get(kind, {}).get(name):
            raise PluginError(f"{kind} {name!r} is no longer there: {why}")
        note = "".join(f" (note: {who} could not be used: {why})" for who, why in self.broken.items())
        raise PluginError(f"no {kind} named {name!r}{nearest(name, names)}{note}")


def _checked(row: object) -> Component:
    if not isinstance(row, Component):
        raise TypeError(f"accomp_components() must give Component objects, got {row!r}")
    _check_kind(row.kind)
    return row


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise PluginError(f"no kind of plugin is called {kind!r}{nearest(kind, KINDS, what='kinds')}")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
