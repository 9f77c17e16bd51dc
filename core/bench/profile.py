"""Where the time goes: kernels of a GPU by time, bytes and share of the copy bandwidth; operators of a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import nn
from torch.profiler import ProfilerActivity

from accomp.core.bench import memory
from accomp.core.bench.live import MB, SteadySessions
from accomp.core.bench.records.figures import shown
from accomp.core.bench.records.table import aligned
from accomp.core.compute.roofline import synchronize
from accomp.core.console import say
from accomp.core.streaming.quantize import Int8Linear

STEPS = 50
"""Steps that are profiled."""
LONGEST = 20
"""Kernels with a row of their own; the others share one."""


@frozen
class KernelTime:
    """A kernel or operator in one step.

    Attributes:
        calls: a step, on average; seconds: of all of them.
        bytes: read by all of them; None where unknown.
    """

    name: str
    calls: float
    seconds: float
    bytes: int | None = None


def show_steps(title: str, sessions: SteadySessions, bandwidth: float) -> None:
    """Print where the time of the sessions' steps goes, with the bytes that they read. bandwidth: bytes/s of a copy."""
    device = sessions.subject.device
    found = kernel_times(sessions.frame, STEPS, device, known_bytes(sessions))
    _show(title, lines(found, sessions.step_bytes, bandwidth, device))


def show_calls(title: str, run: Callable[[], Any], calls: int, device: torch.device) -> None:
    """Print where the time of some calls of `run` goes, each on average."""
    _show(title, lines(kernel_times(run, calls, device, {}), None, 0.0, device))


def _show(title: str, table: Sequence[str]) -> None:
    say("\n".join([f"{title}:", *(f"  {line}" for line in table), ""]))


def kernel_times(
    run: Callable[[], Any], steps: int, device: torch.device, bytes_of: Mapping[str, int]
) -> list[KernelTime]:
    """Profile calls of `run`; bytes_of: kernel -> bytes that its calls of one step read."""
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    synchronize(device)
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps):
            run()
        synchronize(device)
    kinds = torch.autograd.DeviceType  # type: ignore[attr-defined]
    kind = kinds.CUDA if gpu else kinds.CPU
    found = [
        KernelTime(
            event.key,
            event.count / steps,
            (event.self_device_time_total if gpu else event.self_cpu_time_total) / steps / 1e6,
            bytes_of.get(event.key) if gpu else None,
        )
        for event in profiler.key_averages()
        if event.device_type == kind
    ]
    return sorted(found, key=lambda one: -one.seconds)


def known_bytes(sessions: SteadySessions) -> dict[str, int]:
    """Return what the kernels of core/streaming/kernels read in a step: the backbone's matrices, and a full window."""
    backbone = getattr(sessions.model, "backbone", nn.Module())
    linears = [one for one in backbone.modules() if isinstance(one, nn.Linear | Int8Linear)]
    matrices = [tensor for one in linears for tensor in (*one.parameters(), *one.buffers())]
    return {
        "project_kernel": memory.bytes_of(matrices),
        "attend_kernel": sessions.session_bytes * sessions.batch,
    }


def lines(found: Sequence[KernelTime], step_bytes: int | None, bandwidth: float, device: torch.device) -> list[str]:
    """Format a table; the last row is the whole step, which reads `step_bytes`. bandwidth: bytes/s of a copy."""
    whole = KernelTime("all of them", sum(one.calls for one in found), sum(one.seconds for one in found), step_bytes)
    first, rest = list(found[:LONGEST]), found[LONGEST:]
    if rest:
        calls, seconds = sum(one.calls for one in rest), sum(one.seconds for one in rest)
        first.append(KernelTime(f"{len(rest)} others", calls, seconds))
    gpu = device.type == "cuda"
    head = ["kernel" if gpu else "operator", "calls", "us", "of the time", "MB", "of copy bandwidth"]
    cells = [head, *(_cells(one, whole.seconds, bandwidth) for one in (*first, whole))]
    if gpu or step_bytes is None:
        return aligned(cells)
    return [*aligned(cells), "(bytes are not known for each operator of a CPU; the last row has those of the step)"]


def _cells(one: KernelTime, whole: float, bandwidth: float) -> list[str]:
    cells = [one.name, shown(one.calls), shown(1e6 * one.seconds), f"{one.seconds / whole:.0%}" if whole else "-"]
    if one.bytes is None or not one.seconds:
        return [*cells, "-", "-"]
    return [*cells, shown(one.bytes / MB), f"{one.bytes / one.seconds / bandwidth:.0%}"]
