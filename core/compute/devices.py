"""Devices, threads and random numbers of a stage. Global settings are restored at the end of each block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from accomp.core.errors import SpecError

PLAYING_THREADS = 1
"""Default CPU threads for playing: a step of one frame is too small to be parallelised."""


def device_of(accelerator: str, setting: str = "") -> torch.device:
    """Return the device of everything but training; `accelerator` as in a spec's [run].

    setting: how an error names it, if it is not of a spec.

    "auto": a CUDA device, else Apple's, else the CPU. Raises SpecError for an unavailable one.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kinds = {"auto": ("cuda", "mps", "cpu"), "gpu": ("cuda", "mps")}.get(accelerator, (accelerator,))
    for name in kinds:
        if there.get(name, False):
            return torch.device(name, 0) if name != "cpu" else torch.device("cpu")
    raise SpecError(
        f"this machine has no {' or '.join(kinds)} device; got {setting or f'accelerator = {accelerator!r} @ run'}; "
        "`accomp doctor` lists the devices"
    )


def describe(device: torch.device) -> str:
    """Describe a device, for records of times."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} {'thread' if threads == 1 else 'threads'}"


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Set torch's CPU threads to `count` (None: unchanged) within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Restore torch's global generators after the block, whether it draws from them or seeds them."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def number_of(*names: object) -> int:
    """Hash names to a number in [0, 2^63): seeds, session numbers."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
