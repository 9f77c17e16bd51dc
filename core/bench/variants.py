"""Runtime variants of one model: eager, compiled, and the precisions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen

from accomp.core.errors import UserError
from accomp.core.names import nearest
from accomp.core.spec.runtime import Runtime

CPU = torch.device("cpu")


@frozen
class Variant:
    """A runtime with a name."""

    name: str
    runtime: Runtime


VARIANTS = (
    Variant("eager float32", Runtime(compile="off")),
    Variant("eager bfloat16", Runtime(compile="off", weights="bfloat16")),
    Variant("compiled float32", Runtime(compile="on")),
    Variant("compiled bfloat16", Runtime(compile="on", weights="bfloat16")),
    Variant("compiled bfloat16, torch's kernels", Runtime(compile="on", weights="bfloat16", kernels="torch")),
    Variant("compiled int8", Runtime(compile="on", weights="int8")),
    Variant("compiled int8, int8 cache", Runtime(compile="on", weights="int8", cache="int8")),
    Variant("compiled int8, torch's kernels", Runtime(compile="on", weights="int8", kernels="torch")),
    Variant("compiled w8a8", Runtime(compile="on", weights="w8a8")),
    Variant("compiled w8a8, bfloat16 cache", Runtime(compile="on", weights="w8a8", cache="bfloat16")),
)
"""In display order; the first of those that run is the baseline of comparisons."""


def compiled_names(names: Sequence[str]) -> list[str]:
    """Return the names of the compiled variants among these, or of all where none is given."""
    return [one.name for one in VARIANTS if (not names or one.name in names) and one.runtime.compile == "on"]


def variants(names: Sequence[str] = (), device: torch.device = CPU) -> list[Variant]:
    """Return the variants of these names; where none is given, all that suit the device and differ on it. Raises
    UserError for an unknown name.
    """
    known = {one.name: one for one in VARIANTS}
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            *(f"no variant is called {name!r}{nearest(name, known, what='variants')} @ --variant" for name in unknown)
        )
    if names:
        return [one for one in VARIANTS if one.name in names]
    differ = [one for one in VARIANTS if device.type == "cuda" or one.runtime.kernels == "auto"]
    return [one for one in differ if one.runtime.suits(device)]
