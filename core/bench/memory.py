"""Memory of this process and of the GPU."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def begin_peak(device: torch.device) -> None:
    """Reset `peak`; where the system does not allow that, it counts from the beginning of the process."""
    if device.type == "cuda":
        torch.cuda.init()  # without, nothing is known of the device
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        _FORGET.write_text("5")  # Linux: resets the peak resident size


def peak(device: torch.device) -> int:
    """Return the peak bytes: allocated on a GPU, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (found := _status("VmHWM")) is not None:
        return found
    import resource  # POSIX only

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def in_use(device: torch.device) -> int:
    """Return the present bytes: allocated on a GPU, else resident in this process. Raises OSError without /proc."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if (found := _status("VmRSS")) is None:
        raise OSError("this system has no /proc/self/status with the memory of a process")
    return found


def bytes_of(value: object) -> int:
    """Count the bytes of all tensors in a value: in containers, in attributes of objects, and inside wrapper
    tensors.
    """
    if isinstance(value, Tensor):
        if hasattr(value, "__tensor_flatten__"):  # such as int8 weights, whose nbytes are those of the float tensor
            names, _ = value.__tensor_flatten__()
            return sum(bytes_of(getattr(value, name)) for name in names)
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(bytes_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(bytes_of, value))
    return bytes_of(vars(value)) if hasattr(value, "__dict__") else 0


def slope(hours: np.ndarray, samples: np.ndarray) -> float:
    """Return the growth in bytes an hour: the slope of the least-squares line through samples of memory.

    The samples are of at least two times.
    """
    away = hours - hours.mean()
    return float((away * samples).sum() / (away**2).sum())


def _status(name: str) -> int | None:
    """Read a line of /proc/self/status, in bytes."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
