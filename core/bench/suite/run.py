"""`accomp bench suite`: many benchmarks, as a TOML file lists them, with targets beside the measurements.

suite_file.py explains the file. A run with a limit of time is measured in a process of its own (apart.py); compiling
side by side beforehand is in warming.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import evolve

from accomp.core.bench.measuring import Benchmark, measure
from accomp.core.bench.records import host, record
from accomp.core.bench.records.figures import FIGURES, shown
from accomp.core.bench.records.record import BenchRow, Record, on_cpu
from accomp.core.bench.records.table import markdown, ruled, text
from accomp.core.bench.suite.apart import measured_apart
from accomp.core.bench.suite.file import Run, Suite, Target, benchmark_of, load
from accomp.core.bench.suite.warming import warm
from accomp.core.compute.devices import device_of
from accomp.core.compute.roofline import copy_bandwidth, matmul_rate
from accomp.core.console import say, warn
from accomp.core.errors import UserError
from accomp.core.files import write_atomic
from accomp.core.names import nearest
from accomp.core.registry import Registry

NOT_MEASURED = "not measured"
SHARES = ("bandwidth", "matmul")
"""Figures that compare a measurement with the device's best rate: the greater one is the share of its floor."""


def suite(
    path: Path,
    registry: Registry,
    *,
    json: Path,
    only: Sequence[str] = (),
    plan: bool = False,
) -> int:
    """Run the benchmarks of a file, or those named in `only`; the record goes to `json`, its tables beside it as .md.

    Rows of an earlier record of the same machine are replaced case by case, so that a suite can be run in parts. `plan`
    runs nothing and writes the tables of the existing record. A run that fails, is over its time or was not begun is
    named, and stops no other: then the exit code is 1. Raises SpecError, with every mistake, for an invalid file, spec
    or option, before anything runs.
    """
    content = load(path)
    chosen = _chosen(content, only, path)
    benchmarks = {run.name: benchmark_of(run, path) for run in content.run}
    if plan:
        known = record.load(json) if json.exists() else Record({})
        _write(json, content, known, {})
        return 0
    if content.device:
        device_of(content.device)
    for run in chosen:
        content.subject_of(run, benchmarks[run.name], registry)
    facts = host.host()
    if words := host.busy(facts):
        warn(words)
    began = time.monotonic()
    if content.device == "cuda":
        facts |= _card()
    known = _earlier(json, facts)
    if content.warm:
        warm(path, content, {run.name: benchmarks[run.name] for run in chosen})
        say(f"compiled in {time.monotonic() - began:.0f} s")
    failed: dict[str, str] = {}
    for run in chosen:
        left = 60 * content.minutes - (time.monotonic() - began) if content.minutes else None
        lines, why = _lines(path, content, run, benchmarks[run.name], registry, left)
        if lines:
            say(text(lines))
            known = merged(known, lines)
            record.save(known, json)
        if why:
            failed[run.name] = why
            warn(f"{run.name} failed: {why}")
    _write(json, content, known, failed)
    say(f"{len(chosen)} runs in {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if failed else 0


def _lines(
    path: Path, content: Suite, run: Run, benchmark: Benchmark, registry: Registry, left: float | None
) -> tuple[list[BenchRow], str]:
    """Measure a run, in `left` seconds at most -> its rows, and why there are not all; "" where there are."""
    say(f"{run.name}: {run.bench} of {run.spec or benchmark.default}")
    limits = [one for one in (run.seconds or content.seconds, left) if one is not None]
    if left is not None and left <= 0:
        return [], f"not begun: the suite's {content.minutes:g} minutes were over"
    if limits:
        return measured_apart(path, run.name, min(limits))
    try:
        threads = content.threads_of(run)
        return measure(benchmark, run.spec, run.set, registry, device=content.device, threads=threads), ""
    except Exception as error:  # out of memory, or an unavailable part: the other runs continue
        return [], f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"


def _card() -> dict[str, float]:
    """The GPU's best rates, with which figures are compared: GB/s of a copy, TFLOP/s of a bfloat16 matrix product."""
    rates = {
        "copy_gb_s": float(round(copy_bandwidth("cuda") / 1e9)),
        "matmul_tflops": float(round(matmul_rate("cuda", torch.bfloat16) / 1e12)),
    }
    torch.cuda.empty_cache()
    return rates


def merged(known: Record, lines: Sequence[BenchRow]) -> Record:
    """Merge rows into a record, replacing those with the same key."""
    new = {line.key: line for line in lines}
    merged_lines = [new.pop(line.key, line) for line in known.lines]
    return evolve(known, lines=(*merged_lines, *new.values()))


def verdicts(content: Suite, known: Record, failed: Mapping[str, str]) -> Iterator[list[str]]:
    """Return a header and a row a target: what, figure, must, aim, measured, the verdict, and the share of the
    device's floor, the time that its best rate of copies or of matrix products would take.
    """
    yield ["", "figure", "must", "aim", "measured", "reached", "of the floor"]
    for run in content.run:
        lines = [line for line in known.lines if _made_by(run, content.threads_of(run), line)]
        for target in run.target:
            better = FIGURES[target.figure].better
            sign = "at least " if better == "more" else "at most "
            found = [line.figures for line in lines if target.case in line.case and target.figure in line.figures]
            if found:
                value, share = found[0][target.figure], _share(found[0])
                measured, reached = shown(value), _reached(value, target, better)
            else:
                measured, reached = f"failed: {failed[run.name]}" if run.name in failed else NOT_MEASURED, ""
                share = ""
            aim = "" if target.aim is None else sign + shown(target.aim)
            yield [
                target.what,
                FIGURES[target.figure].heading,
                sign + shown(target.must),
                aim,
                measured,
                reached,
                share,
            ]


def _share(figures: Mapping[str, float]) -> str:
    shares = [figures[name] for name in SHARES if name in figures]
    return f"{max(shares):.0%}" if shares else ""


def _reached(value: float, target: Target, better: str) -> str:
    sign = -1 if better == "more" else 1
    if target.aim is not None and sign * value <= sign * target.aim:
        return "aim"
    return "must" if sign * value <= sign * target.must else "missed"


def _made_by(run: Run, threads: int | None, line: BenchRow) -> bool:
    """Test that a row is of the run: the same benchmark, spec, settings and threads, and the requested pace."""
    named = run.spec is None or line.spec == run.spec
    there = threads is None or line.where in ("cuda", on_cpu(threads))
    paced = bool(run.options.get("paced")) == ("paced" in line.case)
    return line.bench == run.bench and named and there and line.settings == run.set and paced


def _chosen(content: Suite, only: Sequence[str], path: Path) -> list[Run]:
    names = [run.name for run in content.run]
    if unknown := [name for name in only if name not in names]:
        raise UserError(*(f"no run is called {name!r}{nearest(name, names, what='runs')} @ {path}" for name in unknown))
    return [run for run in content.run if not only or run.name in only]


def _earlier(json: Path, facts: dict[str, Any]) -> Record:
    """Return the existing record, where it is of such a machine; else an empty one."""
    known = record.load(json) if json.exists() else Record(facts)
    other = [name for name in host.WHAT_MAKES_TIMES if known.machine.get(name) != facts.get(name)]
    if other:
        warn(f"{json} was measured on another {', '.join(other)}; its figures are not kept")
        return Record(facts)
    return evolve(known, machine=facts)


def _write(json: Path, content: Suite, known: Record, failed: Mapping[str, str]) -> None:
    machine = host.describe(known.machine) if known.lines else NOT_MEASURED
    cells = list(verdicts(content, known, failed))
    parts = [f"# {content.title}", f"Machine: {machine}.", "\n".join(ruled(cells))]
    if known.lines:
        parts += ["## All figures", markdown(known.lines)]
    page = json.with_suffix(".md")
    write_atomic(page, "\n\n".join(parts) + "\n")
    say(f"tables: {page}")
