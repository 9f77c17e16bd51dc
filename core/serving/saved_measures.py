"""Measurements of a start, saved for the next one: by machine, models, settings and versions of the code."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from accomp.core.bench.records.host import host
from accomp.core.clock import LatencyBudget
from accomp.core.console import warn
from accomp.core.errors import DataError
from accomp.core.files import hash_file, read_record, write_atomic
from accomp.core.runs.folder import SPEC
from accomp.core.runs.player import playing_checkpoint, weights_hash

PARTS = ("encode", "first", "chunk", "decode", "jitter")


@frozen
class Measures:
    """What a start has measured.

    Attributes:
        faster: run -> KEY=VALUE of [runtime] with which it plays, where it was too slow without.
        budgets: run -> seconds of PARTS.
        fits: number of sessions, and `shares` of the time by number; None and empty for jam.
        date: of the measurement.
    """

    faster: Mapping[str, Sequence[str]]
    budgets: Mapping[str, Mapping[str, float]]
    fits: int | None = None
    shares: Mapping[int, float] = field(factory=dict)
    date: str = field(factory=lambda: time.strftime("%Y-%m-%d %H:%M"))

    def budget(self, name: str, like: LatencyBudget) -> LatencyBudget:
        """The budget of a run, with clock and space of `like`."""
        return LatencyBudget(like.clock, like.space, **dict(self.budgets[name]), rho=like.rho)


def parts_of(budget: LatencyBudget) -> dict[str, float]:
    """Seconds of PARTS of a budget."""
    return {name: float(getattr(budget, name)) for name in PARTS}


def folder() -> Path:
    """Where measurements are saved."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "accomp" / "serving"


def key_of(runs: Mapping[str, Path], *, slots: int | None, clocked: bool, settings: Sequence[Any]) -> str:
    """Key of a start: 32 hexadecimal digits. Anything in it that differs makes another key.

    Raises CheckpointError as `playing_checkpoint` does.
    """
    facts = {name: value for name, value in host().items() if name not in ("date", "load")}
    what = {
        "host": platform.node(), "threads": os.environ.get("OMP_NUM_THREADS", ""), "facts": facts,
        "slots": slots, "clocked": clocked, "settings": [repr(one) for one in settings],
        "runs": {name: [weights_hash(playing_checkpoint(run)), _spec(run)] for name, run in runs.items()},
    }  # fmt: skip
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


def _spec(run: Path) -> str:
    """Hash of a run's spec, whose sampler and runtime may change; "" for a model without one."""
    path = run / SPEC
    return hash_file(path) if path.is_file() else ""


def load(key: str) -> Measures | None:
    """The measurements of a key; None without any. A file that cannot be read is reported, and measured anew."""
    path = folder() / f"{key}.json"
    if not path.is_file():
        return None
    try:
        told = read_record(path, "it is measured anew")
        shares = {int(batch): float(share) for batch, share in told["shares"].items()}
        budgets = {name: {part: float(parts[part]) for part in PARTS} for name, parts in told["budgets"].items()}
        faster = {name: [str(word) for word in words] for name, words in told["faster"].items()}
        return Measures(faster, budgets, told["fits"], shares, told["date"])
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
        warn(f"no use of the measurements saved at {path}: {error}")
        return None


def save(key: str, measures: Measures) -> None:
    """Save measurements; where that is impossible it is reported."""
    path = folder() / f"{key}.json"
    record = {
        "faster": {name: list(words) for name, words in measures.faster.items()},
        "budgets": {name: dict(parts) for name, parts in measures.budgets.items()},
        "fits": measures.fits, "shares": {str(batch): share for batch, share in measures.shares.items()},
        "date": measures.date,
    }  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(record, indent=1) + "\n")
    except OSError as error:
        warn(f"the measurements are not saved: {error}")
