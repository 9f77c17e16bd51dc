"""The ways in which one model can be run, side by side: eager, compiled, and the precisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from accomp.core.errors import UserError
from accomp.core.registry import nearest


@frozen
class Variant:
    """A way to run a session. `options`: further arguments of TokenSession."""

    name: str
    options: dict[str, Any]


def variants(names: Sequence[str]) -> list[Variant]:
    """Those of these names, all where none is given; the first is what the others are compared with.

    Raises UserError for a name that there is not.
    """
    known = {one.name: one for one in _all()}
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            *(f"no variant is called {name!r}{nearest(name, known, what='variants')} @ --variant" for name in unknown)
        )
    return [one for one in known.values() if not names or one.name in names]


def _all() -> list[Variant]:
    return [Variant("eager float32", {})]
