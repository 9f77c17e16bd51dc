"""Running of benchmarks: spec, threads, machine, and output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from accomp.core.bench.records import compare, host, record, table
from accomp.core.bench.records.record import BenchRow, Record
from accomp.core.bench.subject import BenchModel, subject
from accomp.core.compute.devices import threads as using
from accomp.core.console import say, warn
from accomp.core.registry import Registry


class Benchmark(Protocol):
    """A frozen attrs class whose fields are its options and whose name, in lower case, is its command's.

    Attributes:
        default: the default spec.
        threads: default CPU threads; None leaves the number to torch.
    """

    default: ClassVar[str]
    threads: ClassVar[int | None]

    def lines(self, subject: BenchModel) -> Iterator[BenchRow]:
        """Yield the rows, each when it is measured."""
        ...

    def parts(self) -> Sequence[Benchmark]:
        """Return benchmarks that differ from this one in that each needs only some of what is compiled for it."""
        ...

    def compile(self, subject: BenchModel) -> None:
        """Compile what `lines` needs, and run it once."""
        ...


def measure(
    benchmark: Benchmark,
    spec: str | None,
    settings: Sequence[str],
    registry: Registry,
    *,
    device: str | None = None,
    threads: int | None = None,
) -> list[BenchRow]:
    """Run one benchmark and return its rows. Raises UserErrors for a spec, a device or options that do not fit."""
    return list(rows_of(benchmark, spec, settings, registry, device=device, threads=threads))


def rows_of(
    benchmark: Benchmark,
    spec: str | None,
    settings: Sequence[str],
    registry: Registry,
    *,
    device: str | None = None,
    threads: int | None = None,
) -> Iterator[BenchRow]:
    """Run one benchmark and yield its rows, each when it is measured. Raises as `measure` does."""
    found = subject(spec or benchmark.default, settings, registry, device=device, threads=threads)
    with using(found.spec.run.threads or benchmark.threads):
        yield from benchmark.lines(found)


def show(lines_of: Callable[[], Sequence[BenchRow]], json: Path | None, before: Path | None) -> None:
    """Run a benchmark and print a table, write a JSON file, and compare with an earlier record.

    Warns of a busy machine. Raises the errors of the measurement, and, before it begins, DataError for an unreadable
    earlier record.
    """
    earlier = record.load(before) if before else None
    facts = host.host()
    if words := host.busy(facts):
        warn(words)
    lines = lines_of()
    found = Record(facts, tuple(lines))
    say(f"{host.describe(facts)}\n\n{table.text(lines)}")
    if json:
        record.save(found, json)
        say(f"\nrecord: {json}")
    if earlier:
        say("\n" + "\n".join(compare.lines(found, earlier)))
