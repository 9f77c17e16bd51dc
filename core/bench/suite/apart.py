"""A run of a suite in a process of its own: it is ended when its time is over, and harms no other.

Rows that it has measured by then are kept.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from accomp.core.bench.measuring import rows_of
from accomp.core.bench.records import host, record
from accomp.core.bench.records.record import BenchRow, Record
from accomp.core.bench.suite.file import benchmark_of, load
from accomp.core.bench.suite.processes import finished
from accomp.core.registry import Registry


def measured_apart(path: Path, name: str, seconds: float) -> tuple[list[BenchRow], str]:
    """Measure the run `name` of a suite file -> its rows, and why there are not all; "" where there are."""
    with tempfile.TemporaryDirectory(prefix="accomp-bench-") as folder:
        rows = Path(folder) / "rows.json"
        code = finished(main, path, name, rows, seconds=seconds)
        lines = list(record.load(rows).lines) if rows.exists() else []
        if code is None:
            return lines, f"over its time of {seconds:.3g} s"
        error = rows.with_suffix(".error")
        if code == 0:
            return lines, ""
        return lines, error.read_text(encoding="utf-8") if error.exists() else f"its process ended with {code}"


def main(path: Path, name: str, out: Path) -> int:
    """Measure a run, and write its rows one by one."""
    content = load(path)
    run = next(one for one in content.run if one.name == name)
    lines: list[BenchRow] = []
    try:
        benchmark = benchmark_of(run, path)
        threads = content.threads_of(run)
        for line in rows_of(benchmark, run.spec, run.set, Registry(), device=content.device, threads=threads):
            lines.append(line)
            record.save(Record(host.host(), tuple(lines)), out)
    except Exception as error:  # out of memory, or an unavailable part
        words = str(error).strip().splitlines()
        out.with_suffix(".error").write_text(f"{type(error).__name__}: {words[0] if words else ''}", encoding="utf-8")
        return 1
    return 0
