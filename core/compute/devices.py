"""Where and with which random numbers a stage computes: device, threads, seeds. Nothing global outlives a block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from accomp.core.errors import SpecError

PLAYING_THREADS = 1
"""CPU threads for playing where a spec names none: a step of one frame is too small to share out."""


def device_of(accelerator: str) -> torch.device:
    """The one device that everything but training computes on; `accelerator` as in a spec's [run].

    "auto": a CUDA device, else Apple's, else the CPU. Raises SpecError for one that this machine lacks.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    wanted = {"auto": ("cuda", "mps", "cpu"), "gpu": ("cuda", "mps")}.get(accelerator, (accelerator,))
    for name in wanted:
        if there.get(name, False):
            return torch.device(name, 0) if name != "cpu" else torch.device("cpu")
    raise SpecError(
        f"this machine has no {' or '.join(wanted)} device; got accelerator = {accelerator!r} @ run; `accomp doctor` "
        "lists the devices"
    )


def describe(device: torch.device) -> str:
    """A device in words, for records of times."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} {'thread' if threads == 1 else 'threads'}"


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """torch computes with `count` CPU threads (None: as before) while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """What the block draws from torch's global generators, or how it seeds them, leaves no trace outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def number_of(*names: object) -> int:
    """A number in [0, 2^63) that belongs to these names alone: seeds, session numbers."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
