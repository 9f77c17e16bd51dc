"""The clock of a checkpoint: t_f and k, on which all sources must agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accomp.plugin import Clock
from accomp.plugins.importers.stream_music_gen.checkpoint import STREAMING, Found


def clock_of(found: Found, t_f: int | None, k: int | None, problems: list[str]) -> Clock | None:
    """Return the clock of its training from all sources; None if it has none or, with a problem, if unclear."""
    if not found.model.streams:
        given = [f"{option} {value}" for option, value in (("--t-f", t_f), ("--chunk", k)) if value is not None]
        problems += [f"{option}: a model of the kind {found.model.kind!r} has no clock" for option in given]
        return None
    sizes = found.model.sizes
    t_fs = {"--t-f": t_f, **found.settings.get("future_visibility", {})}
    ks = {"--chunk": k, **found.settings.get("chunk_length", {})}
    ks |= {f"{cls} in {where}": 1 for where, cls in found.settings.get("cls", {}).items() if cls == STREAMING}
    if found.model.kind != "streaming":
        ks["its way to fuse, which chunked models do not have"] = 1
    if "P" in sizes:
        t_fs[f"the {sizes['P']} rows of input_padding"] = 1 - sizes["P"]
        unknown = ""
    else:
        unknown = "it has no input_padding, so t_f > 0, but nothing says how many frames; give --t-f"
    t_f = _agreed("t_f", t_fs, unknown, problems)
    unknown = "its weights do not say whether it is a streaming or a chunked model; give --chunk 1, or its k"
    k = _agreed("k", ks, unknown, problems)
    if t_f is not None and t_f < 1 and "P" not in sizes:
        problems.append(f"t_f is {t_f}, but it has no input_padding, as only models with t_f > 0")
    if k is not None and k < 1:
        problems.append(f"k is {k}; expected at least one frame")
    return None if problems or t_f is None or k is None else Clock(t_f, k)


def _agreed(what: str, settings: Mapping[str, Any], unknown: str, problems: list[str]) -> int | None:
    """Return the number on which all sources agree; None, with a problem, if they differ or are missing."""
    given = {where: value for where, value in settings.items() if value is not None}
    if odd := [f"{value!r} by {where}" for where, value in given.items() if type(value) is not int]:
        problems.append(f"{what} is {', '.join(odd)}; expected a number of frames")
    elif not given:
        problems.append(unknown)
    elif len(set(given.values())) > 1:
        problems.append(f"{what} is {', but '.join(f'{value} by {where}' for where, value in given.items())}")
    else:
        return next(iter(given.values()))
    return None
