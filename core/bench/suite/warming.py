"""Compiling side by side what the runs of a suite need, so that each finds it in torch's cache when it is measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from accomp.core.bench.measuring import Benchmark
from accomp.core.bench.suite.file import Suite, benchmark_of, load
from accomp.core.bench.suite.processes import end, started
from accomp.core.compute.cores import cores
from accomp.core.compute.devices import threads
from accomp.core.console import say, warn
from accomp.core.registry import Registry

SECONDS = 240.0
"""Limit of the time for all of it; what is not compiled then is compiled when it is measured."""
WAIT = 0.2


def warm(path: Path, content: Suite, benchmarks: Mapping[str, Benchmark], seconds: float = SECONDS) -> None:
    """Compile the parts of the runs in `content.warm` processes at a time; warns of those that failed."""
    waiting = parts(content, benchmarks)
    if not waiting:
        return
    say(f"compiling {len(waiting)} parts, {content.warm} at a time")
    share = max(1, cores() // content.warm)
    running: dict[str, BaseProcess] = {}
    until = time.monotonic() + seconds
    try:
        while (waiting or running) and time.monotonic() < until:
            while waiting and len(running) < content.warm:
                name, part = waiting.pop(0)
                running[f"{name}, part {part}"] = started(main, path, name, part, share)
            for label, child in list(running.items()):
                if child.exitcode is not None:
                    del running[label]
                    if child.exitcode:
                        warn(f"{label} could not be compiled beforehand: its process ended with {child.exitcode}")
            time.sleep(WAIT)
        late = [*running, *(f"{name}, part {part}" for name, part in waiting)]
        if late:
            warn(f"not compiled beforehand within {seconds:.0f} s: {'; '.join(late)}")
    finally:
        for child in running.values():
            end(child)


def parts(content: Suite, benchmarks: Mapping[str, Benchmark]) -> list[tuple[str, int]]:
    """Run and number of each part, the first parts of all runs first; equal parts of two runs once."""
    found: dict[object, tuple[str, int]] = {}
    for run in content.run:
        for number, part in enumerate(benchmarks[run.name].parts() if run.name in benchmarks else ()):
            found.setdefault((part, run.spec, run.set, content.threads_of(run)), (run.name, number))
    return sorted(found.values(), key=lambda part: part[1])


def main(path: Path, name: str, part: int, compile_threads: int) -> int:
    """Compile a part of a run, with so many threads of torch's compiler."""
    from torch._inductor import config

    config.compile_threads = compile_threads
    content = load(path)
    run = next(one for one in content.run if one.name == name)
    benchmark = benchmark_of(run, path)
    subject = content.subject_of(run, benchmark, Registry())
    with threads(subject.spec.run.threads or benchmark.threads):
        benchmark.parts()[part].compile(subject)
    return 0
