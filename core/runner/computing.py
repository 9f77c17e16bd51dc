"""Where and with which random numbers a stage computes: device, threads, seeds. Nothing global outlives a block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import ModelParallelStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException

from accomp.core.errors import SpecError
from accomp.core.runner.sharding import shard
from accomp.core.spec import RunSpec

PLAYING_THREADS = 1
"""CPU threads for playing where a spec names none: a step of one frame is too small to share out."""


def fabric_of(run: RunSpec, loggers: Sequence[Any] = ()) -> Fabric:
    """Lightning Fabric as a spec's [run] wants it. Raises SpecError for what it does not know or this machine lacks."""
    sharded = run.strategy == "fsdp"
    if sharded and run.precision == "16-mixed":
        text = (
            'run.strategy = "fsdp" does not go with run.precision = "16-mixed", which scales gradients in each process'
        )
        raise SpecError(f'{text} by itself; take "bf16-mixed" @ run.precision')
    try:
        return Fabric(
            accelerator=run.accelerator,
            devices=run.devices,
            strategy=ModelParallelStrategy(shard, run.devices, 1) if sharded else run.strategy,
            precision=run.precision,
            loggers=list(loggers),
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        wanted = f"accelerator = {run.accelerator!r}, devices = {run.devices}, strategy = {run.strategy!r}, "
        wanted += f"precision = {run.precision!r}"
        raise SpecError(f"cannot compute with {wanted}: {error} @ run; `accomp doctor` lists the devices") from error


def device_of(accelerator: str) -> torch.device:
    """The one device that everything but training computes on; `accelerator` as in a spec's [run]. Raises SpecError."""
    return fabric_of(RunSpec(folder="", accelerator=accelerator)).device  # type: ignore[arg-type]  # Fabric looks


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
