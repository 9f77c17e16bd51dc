"""Functions that numba compiles once and keeps on disk, where there is a folder for it. Importing this needs numba."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def machine(function: Function) -> Function:
    """Sums keep their order, so that a frame's sound never depends on how many come with it."""
    options: dict[str, Any] = {"fastmath": {"contract", "nsz"}, "nogil": True, "error_model": "numpy"}
    try:
        made: Function = njit(function, cache=True, **options)
        _forget_if_older(function, Path(made.stats.cache_path))  # type: ignore[attr-defined]
    except RuntimeError:
        made = njit(function, **options)
    return made


def _forget_if_older(function: Callable[..., Any], kept: Path) -> None:
    """Compile anew if a source beside it, or here, is newer: numba keeps what a function calls from other files."""
    source = Path(function.__code__.co_filename)
    folders = {source.parent, Path(__file__).parent}
    newest = max(file.stat().st_mtime for folder in folders for file in folder.glob("*.py"))
    for index in kept.glob(f"{source.stem}.{function.__qualname__}-*.nbi"):
        with suppress(FileNotFoundError):  # another process that begins has been faster
            if index.stat().st_mtime < newest:
                index.unlink()
