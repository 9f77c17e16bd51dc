"""Processes of their own, forked from one that has imported torch and the benchmarks: importing takes seconds.

The one that they are forked from does nothing but import, since a GPU that was used before a fork is of no use after.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

IMPORTED = ["accomp.core.bench.suite.apart", "accomp.core.bench.suite.warming", "torch._inductor.compile_fx"]
"""By the process that others are forked from."""

ENVIRONMENT = {
    "PYTHONSAFEPATH": "1",  # a checkout in the working folder is not what is installed
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # a module that asks for GPUs when it is imported does not begin to use them
}


def started(target: Callable[..., int], *arguments: Any) -> BaseProcess:
    """Start a function of a module as the leader of a group of processes; its exit code is what it returns."""
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
    child: BaseProcess = context.Process(target=_leader, args=(target, arguments))
    if forks:
        context.set_forkserver_preload(IMPORTED)
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    try:
        os.environ.update(ENVIRONMENT)
        child.start()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return child


def finished(target: Callable[..., int], *arguments: Any, seconds: float) -> int | None:
    """Run a function of a module in a process -> what it returns; None where it was ended, being over its time."""
    child = started(target, *arguments)
    try:
        child.join(seconds)
        return child.exitcode
    finally:
        end(child)


def end(child: BaseProcess) -> None:
    """End a process and those that it has started, compilers for example."""
    if child.exitcode is not None or child.pid is None:
        return
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:  # it does not lead a group yet
        child.kill()
    child.join()


def _leader(target: Callable[..., int], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    sys.exit(target(*arguments))
