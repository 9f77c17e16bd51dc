"""Files of `accomp bench suite`: which benchmarks, with which targets.

title = "..."
device = "cuda"                          # of every run
minutes = 8                              # of all together: runs that would begin later are named as not begun
seconds = 60                             # of each run, in a process of its own, which is ended then
warm = 12                                # first compile, side by side in so many processes, what the runs will need

[[run]]
name = "step"                            # for --only
bench = "stream"
spec = "streaming_k1"
set = ["train.frames=500"]
seconds = 90                             # of this run
options = { steps = 10000, paced = true }    # fields of the benchmark's class

[[run.target]]
what = "a step of one session"
case = "compiled"                        # of the lines whose case contains this, the first that has the figure
figure = "p50_ms"
must = 0.8                               # at most, or at least where more is better
aim = 0.4
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen
from attrs import validators as v

from accomp.core.bench.cases.chunk import Chunk
from accomp.core.bench.cases.codec import Codec
from accomp.core.bench.cases.loader import Loader
from accomp.core.bench.cases.mlm import Mlm
from accomp.core.bench.cases.offline import Offline
from accomp.core.bench.cases.sessions import Sessions
from accomp.core.bench.cases.stream import Stream
from accomp.core.bench.cases.train import Train
from accomp.core.bench.measuring import Benchmark
from accomp.core.bench.records.figures import FIGURES
from accomp.core.bench.subject import BenchModel, subject
from accomp.core.errors import SpecError
from accomp.core.names import nearest
from accomp.core.registry import Registry
from accomp.core.spec.parsing import Problems, strict_converter, structure_fields
from accomp.core.spec.toml_files import read_toml

BENCHMARKS: tuple[type[Any], ...] = (Stream, Chunk, Mlm, Train, Codec, Sessions, Loader, Offline)
_positive = v.optional(v.gt(0))


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
    """One benchmark of one spec. `threads` and `seconds` override the suite's."""

    name: str
    bench: str
    spec: str | None = None
    set: tuple[str, ...] = ()
    threads: int | None = None
    seconds: float | None = field(default=None, validator=_positive)
    options: dict[str, Any] = field(factory=dict)
    target: tuple[Target, ...] = ()


@frozen
class Suite:
    """Content of a suite file. `device` and `threads` as in a spec's [run].

    Attributes:
        seconds: limit of a run's time, where it has none of its own; without any it runs in this process.
        minutes: limit of the whole suite's time.
        warm: processes that compile side by side before anything is measured; 0 for none.
    """

    title: str
    run: tuple[Run, ...] = field(validator=v.min_len(1))
    device: str | None = None
    threads: int | None = None
    seconds: float | None = field(default=None, validator=_positive)
    minutes: float | None = field(default=None, validator=_positive)
    warm: int = field(default=0, validator=v.ge(0))

    def threads_of(self, run: Run) -> int | None:
        """Return the threads of a run."""
        return run.threads or self.threads

    def subject_of(self, run: Run, benchmark: Benchmark, registry: Registry) -> BenchModel:
        """Build the subject of a run. Raises UserErrors for an invalid spec and an unavailable device."""
        name, threads = run.spec or benchmark.default, self.threads_of(run)
        return subject(name, run.set, registry, device=self.device, threads=threads)


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


def benchmark_of(run: Run, path: Path) -> Benchmark:
    """Create the benchmark of a run. Raises SpecError, naming the file, for an unknown one and for wrong options."""
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


def _dotted(at: Sequence[str | int]) -> str:
    return ".".join(map(str, at))
