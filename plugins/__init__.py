"""The built-in plugins. The package can be called: `accomp.plugins("sampler")` lists what is installed."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accomp.catalog import Plugin


class _Plugins(ModuleType):
    """A package that lists plugins where it is called, since it has the name of that function."""

    def __call__(self, kind: str | None = None) -> list[Plugin]:
        from accomp.catalog import plugins

        return plugins(kind)


sys.modules[__name__].__class__ = _Plugins
