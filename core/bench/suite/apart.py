"""A run of a suite in a process of its own: it is ended when its time is over, and harms no other.

Rows that it has measured by then are kept. The process is `python -m accomp.core.bench.suite.apart FILE NAME ROWS`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from accomp.core.bench.measuring import rows_of
from accomp.core.bench.records import host, record
from accomp.core.bench.records.record import BenchRow, Record
from accomp.core.bench.suite.file import benchmark_of, load
from accomp.core.registry import Registry


def measured_apart(path: Path, name: str, seconds: float) -> tuple[list[BenchRow], str]:
    """Measure the run `name` of a suite file -> its rows, and why there are not all; "" where there are."""
    with tempfile.TemporaryDirectory(prefix="accomp-bench-") as folder:
        rows = Path(folder) / "rows.json"
        code = finished(["accomp.core.bench.suite.apart", str(path), name, str(rows)], seconds)
        lines = list(record.load(rows).lines) if rows.exists() else []
        if code is None:
            return lines, f"over its time of {seconds:.3g} s"
        error = rows.with_suffix(".error")
        if code == 0:
            return lines, ""
        return lines, error.read_text(encoding="utf-8") if error.exists() else f"its process ended with {code}"


def finished(module: Sequence[str], seconds: float, more: Mapping[str, str] | None = None) -> int | None:
    """Run a module as a process, with `more` in its environment -> its exit code; None where it was ended."""
    child = started(module, more)
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        end(child)


def started(module: Sequence[str], more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a module, with its arguments, as the leader of a group of processes."""
    command = [sys.executable, "-P", "-m", *module]  # -P: a checkout in the working folder is not what is installed
    return subprocess.Popen(command, env={**os.environ, **(more or {})}, start_new_session=True)


def end(child: subprocess.Popen[bytes]) -> None:
    """End a process and those that it has started, compilers for example."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


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


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
