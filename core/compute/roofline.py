"""Peak rates of this machine, with which measured work is compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

REPEATS = 7
"""Number of timings, of which the median counts; each with as many calls as keep a GPU's queue full."""


@torch.no_grad()
def matmul_rate(device: torch.device | str, dtype: torch.dtype) -> float:
    """Measure FLOP/s of a large square matrix product in `dtype`, with torch's present settings (threads, TF32).

    Raises torch's error where the device does not support the type.
    """
    device = torch.device(device)
    size, calls = (8192, 10) if device.type == "cuda" else (1024, 1)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    product = torch.empty_like(a)
    return calls * 2 * size**3 / _seconds(lambda: torch.mm(a, b, out=product), calls, device)


@torch.no_grad()
def copy_bandwidth(device: torch.device | str) -> float:
    """Measure bytes/s of a copy within the device's memory, reads and writes both counted."""
    device = torch.device(device)
    size, calls = (2**30, 10) if device.type == "cuda" else (2**27, 1)
    source = torch.ones(size // 4, device=device)
    copy = torch.empty_like(source)
    return calls * 2 * size / _seconds(lambda: copy.copy_(source), calls, device)


def _seconds(work: Callable[[], object], calls: int, device: torch.device) -> float:
    """Return the median time of `calls` successive calls, after as many to warm up."""
    times = []
    for _ in range(1 + REPEATS):
        synchronize(device)
        began = time.perf_counter()
        for _ in range(calls):
            work()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work; returns at once on a CPU."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
