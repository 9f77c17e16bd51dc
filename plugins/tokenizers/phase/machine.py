"""Functions that numba compiles, once, and keeps on disk where there is a folder for it. Importing this needs numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def machine(function: Function) -> Function:
    """Sums keep their order, so that a frame's sound never depends on how many come with it."""
    options: dict[str, Any] = {"fastmath": {"contract", "nsz"}, "nogil": True, "error_model": "numpy"}
    try:
        made: Function = njit(function, cache=True, **options)
    except RuntimeError:
        made = njit(function, **options)
    return made
