"""What this machine can do at best: the rates that measured work is compared with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

REPEATS = 7
"""Timings of which the median counts; as many calls in each as keep a GPU's queue full."""


@torch.no_grad()
def matmul_rate(device: torch.device | str, dtype: torch.dtype) -> float:
    """FLOP/s of a big square matrix product in `dtype`, as torch computes it here and now (threads, TF32 setting).

    Raises what torch raises where the device does not multiply such numbers.
    """
    device = torch.device(device)
    size, calls = (8192, 10) if device.type == "cuda" else (1024, 1)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    product = torch.empty_like(a)
    return calls * 2 * size**3 / _seconds(lambda: torch.mm(a, b, out=product), calls, device)


@torch.no_grad()
def copy_bandwidth(device: torch.device | str) -> float:
    """Bytes/s that a copy within the device's memory moves: what it reads and what it writes, both counted."""
    device = torch.device(device)
    size, calls = (2**30, 10) if device.type == "cuda" else (2**27, 1)
    source = torch.ones(size // 4, device=device)
    copy = torch.empty_like(source)
    return calls * 2 * size / _seconds(lambda: copy.copy_(source), calls, device)


def _seconds(work: Callable[[], object], calls: int, device: torch.device) -> float:
    """Median time of `calls` calls in a row, after as many to warm up."""
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
    """Waits until the device has done what it was told to; nothing to wait for on a CPU."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
