"""`accomp bench suite`: many benchmarks, as a TOML file lists them, with targets beside the measurements.

title = "..."
device = "cuda"                          # of every run

[[run]]
name = "step"                            # for --only
bench = "stream"
spec = "streaming_k1"
set = ["train.frames=500"]
options = { steps = 10000, paced = true }    # fields of the benchmark's class

[[run.target]]
what = "a step of one session"
case = "compiled"                        # of the lines whose case contains this, the first that has the figure
figure = "p50_ms"
must = 0.8                               # at most, or at least where more is better
aim = 0.4
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen
from attrs import validators as v

from accomp.core.bench import host, record
from accomp.core.bench.cases.chunk import Chunk
from accomp.core.bench.cases.codec import Codec
from accomp.core.bench.cases.loader import Loader
from accomp.core.bench.cases.mlm import Mlm
from accomp.core.bench.cases.sessions import Sessions
from accomp.core.bench.cases.stream import Stream
from accomp.core.bench.cases.train import Train
from accomp.core.bench.figures import FIGURES, shown
from accomp.core.bench.measuring import Benchmark, measure
from accomp.core.bench.record import BenchRow, Record, on_cpu
from accomp.core.bench.subject import subject
from accomp.core.bench.table import markdown, ruled, text
from accomp.core.compute.devices import device_of
from accomp.core.console import say, warn
from accomp.core.errors import SpecError, UserError
from accomp.core.files import write_atomic
from accomp.core.names import nearest
from accomp.core.registry import Registry
from accomp.core.spec.parsing import Problems, strict_converter, structure_fields
from accomp.core.spec.toml_files import read_toml

NOT_MEASURED = "not measured"
BENCHMARKS: tuple[type[Any], ...] = (Stream, Chunk, Mlm, Train, Codec, Sessions, Loader)


def _a_figure(_: Any, __: Any, name: str) -> None:
    if name not in FIGURES:
        raise ValueError(f"no figure is called {name!r}{nearest(name, FIGURES, what='figures')}")


@frozen
class Target:
    """A target of a run's figure, in the figure's own unit; `what` for people, `case` as above."""

    what: str
    figure: str = field(validator=_a_figure)
    must: float
    aim: float | None = None
    case: str = ""


@frozen
class Run:
    """One benchmark of one spec. `threads`: overrides the suite's."""

    name: str
    bench: str
    spec: str | None = None
    set: tuple[str, ...] = ()
    threads: int | None = None
    options: dict[str, Any] = field(factory=dict)
    target: tuple[Target, ...] = ()


@frozen
class Suite:
    """Content of a suite file. `device` and `threads` as in a spec's [run]."""

    title: str
    run: tuple[Run, ...] = field(validator=v.min_len(1))
    device: str | None = None
    threads: int | None = None

    def threads_of(self, run: Run) -> int | None:
        """Return the threads of a run."""
        return run.threads or self.threads


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
    runs nothing and writes the tables of the existing record. A run that fails is named, and stops no other: then the
    exit code is 1. Raises SpecError, with every mistake, for an invalid file, spec or option, before anything runs.
    """
    content = load(path)
    chosen = _chosen(content, only, path)
    benchmarks = {run.name: _benchmark(run, path) for run in content.run}
    if plan:
        known = record.load(json) if json.exists() else Record({})
        _write(json, content, known, {})
        return 0
    if content.device:
        device_of(content.device)
    for run in chosen:
        one = benchmarks[run.name]
        subject(run.spec or one.default, run.set, registry, device=content.device, threads=content.threads_of(run))
    facts = host.host()
    if words := host.busy(facts):
        warn(words)
    known = _earlier(json, facts)
    failed: dict[str, str] = {}
    for run in chosen:
        say(f"{run.name}: {run.bench} of {run.spec or benchmarks[run.name].default}")
        try:
            threads = content.threads_of(run)
            lines = measure(benchmarks[run.name], run.spec, run.set, registry, device=content.device, threads=threads)
        except Exception as error:  # out of memory, or an unavailable part: the other runs continue
            failed[run.name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            warn(f"{run.name} failed: {failed[run.name]}")
            continue
        say(text(lines))
        known = merged(known, lines)
        record.save(known, json)
    _write(json, content, known, failed)
    return 1 if failed else 0


def load(path: Path) -> Suite:
    """Read a suite. Raises SpecError with every problem."""
    try:
        found: Suite = structure_fields(strict_converter(), read_toml(path), Suite)
    except Problems as problems:
        raise SpecError(*(f"{text} @ {path}: {_dotted(at)}" for at, text in problems.found)) from None
    names = [run.name for run in found.run]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SpecError(f"two runs are called {', '.join(map(repr, twice))} @ {path}: run")
    return found


def merged(known: Record, lines: Sequence[BenchRow]) -> Record:
    """Merge rows into a record, replacing those with the same key."""
    new = {line.key: line for line in lines}
    merged_lines = [new.pop(line.key, line) for line in known.lines]
    return evolve(known, lines=(*merged_lines, *new.values()))


def verdicts(content: Suite, known: Record, failed: Mapping[str, str]) -> Iterator[list[str]]:
    """Return a header and a row a target: what, figure, must, aim, measured, and the verdict."""
    yield ["", "figure", "must", "aim", "measured", "reached"]
    for run in content.run:
        lines = [line for line in known.lines if _made_by(run, content.threads_of(run), line)]
        for target in run.target:
            better = FIGURES[target.figure].better
            sign = "at least " if better == "more" else "at most "
            values = [line.figures[target.figure] for line in lines
                      if target.case in line.case and target.figure in line.figures]  # fmt: skip
            if values:
                measured, reached = shown(values[0]), _reached(values[0], target, better)
            else:
                measured, reached = f"failed: {failed[run.name]}" if run.name in failed else NOT_MEASURED, ""
            aim = "" if target.aim is None else sign + shown(target.aim)
            yield [target.what, FIGURES[target.figure].heading, sign + shown(target.must), aim, measured, reached]


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


def _benchmark(run: Run, path: Path) -> Benchmark:
    known = {cls.__name__.lower(): cls for cls in BENCHMARKS}
    if run.bench not in known:
        text = f"no benchmark is called {run.bench!r}{nearest(run.bench, known, what='benchmarks')}"
        raise SpecError(f"{text} @ {path}: run {run.name!r}")
    try:
        benchmark: Benchmark = structure_fields(strict_converter(), run.options, known[run.bench])
    except Problems as problems:
        places = (f"{text} @ {path}: run {run.name!r}, options.{_dotted(at)}" for at, text in problems.found)
        raise SpecError(*places) from None
    return benchmark


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


def _dotted(at: Sequence[str | int]) -> str:
    return ".".join(map(str, at))
