"""Benchmark records as JSON: the machine, and a row for each case of each benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from accomp.core.errors import DataError
from accomp.core.files import write_atomic
from accomp.core.spec.parsing import Problems, strict_converter

FORMAT = 1


@frozen
class BenchRow:
    """Figures of one case.

    Attributes:
        bench: the benchmark.
        spec: the spec's name or file.
        settings: overrides, "KEY=VALUE" each.
        where: device and threads.
        case: distinguishes it from the benchmark's other rows.
        figures: by the names of FIGURES; absent where not measured.
    """

    bench: str
    spec: str
    settings: tuple[str, ...]
    where: str
    case: str
    figures: dict[str, float]

    @property
    def key(self) -> tuple[str, str, tuple[str, ...], str, str]:
        """Key of the case, equal in two records; the name of a GPU is no part of it."""
        return self.bench, self.spec, self.settings, self.where, self.case


def on_cpu(threads: int) -> str:
    """Name the place of a measurement on that number of CPU threads."""
    return "cpu, 1 thread" if threads == 1 else f"cpu, {threads} threads"


@frozen
class Record:
    """A record: `machine` as host.host returns it, `lines` in the order of measurement."""

    machine: dict[str, Any]
    lines: tuple[BenchRow, ...] = ()
    format: int = field(default=FORMAT)


def save(record: Record, path: Path) -> None:
    """Write a record as JSON, without NaN."""
    write_atomic(path, json.dumps(attrs.asdict(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def load(path: Path) -> Record:
    """Read a record. Raises DataError for any other file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror} @ {path}") from error
    except ValueError as error:
        raise DataError(f"expected the JSON of `accomp bench --json`, but it is no JSON: {error} @ {path}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise DataError(f"expected the JSON of `accomp bench --json`, format {FORMAT}; this is {found!r} @ {path}")
    try:
        lines: Sequence[BenchRow] = strict_converter().structure(data.get("lines"), tuple[BenchRow, ...])
    except Problems as problems:
        raise DataError(*(f"{text} @ {path}: lines.{'.'.join(map(str, at))}" for at, text in problems.found)) from None
    return Record(data.get("machine") or {}, tuple(lines))
