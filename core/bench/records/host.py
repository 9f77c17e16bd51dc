"""Description of the machine, as part of a record."""

from __future__ import annotations

import datetime
import os
from typing import Any

import torch

from accomp.core.compute.cores import cores, processor
from accomp.core.runs.folder import versions

BUSY = 0.5
"""Load average per core above which times are unreliable."""

WHAT_MAKES_TIMES = ("cpu", "cores", "gpu", "torch", "cuda")
"""Properties whose difference makes two records hard to compare."""


def host() -> dict[str, Any]:
    """Collect processor, cores, memory, GPU, versions, load and date; unknown ones are absent."""
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": processor(),
        "cores": cores(),
        "load": load(),
        **versions(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["gpu_memory_gb"] = round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)
        found["cuda"] = torch.version.cuda
    return found


def load() -> float | None:
    """Return the load average of the last minute; None where the system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def busy(facts: dict[str, Any]) -> str:
    """Return a warning where other work shared the machine when `facts` were gathered; else an empty string."""
    now, cores = facts.get("load"), facts.get("cores")
    if now is None or not cores or now <= BUSY * cores:
        return ""
    return (
        f"the machine is busy: load {now:g} on {cores} cores. Times will be too long, their tails longer; ratios and "
        f"processor times (cpu ms) say more"
    )


def describe(facts: dict[str, Any]) -> str:
    """Describe the machine in one line."""
    memory = f", {facts['memory_gb']:g} GB" if "memory_gb" in facts else ""
    gpu = f"; {facts['gpu']}, {facts['gpu_memory_gb']:g} GB" if "gpu" in facts else ""
    if "copy_gb_s" in facts:
        gpu += f", copies {facts['copy_gb_s']:g} GB/s, multiplies {facts['matmul_tflops']:g} TFLOP/s"
    where = f"{facts['cpu']}, {facts['cores']} cores{memory}{gpu}"
    return f"{where}; torch {facts['torch']}; load {facts['load']}; {facts['date']}"
