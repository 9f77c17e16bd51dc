"""What compiled code depends on beside what it computes, and the folder in which torch keeps it."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import torch

from accomp.core.compute.cores import processor


def facts(device: torch.device) -> dict[str, str]:
    """Return versions of torch and Python, the device's name, and the hash of accomp's code."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {"torch": torch.__version__, "python": platform.python_version(), "device": name, "code": _accomp_code()}


def torch_cache() -> Path:
    """Return the folder in which torch keeps what it compiles."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return Path(cache_dir())


def package_hash(name: str) -> str:
    """Hash the Python files of an imported top-level package, or the file of a module; "" where it has none."""
    module = sys.modules.get(name)
    if folders := list(getattr(module, "__path__", [])):
        return _hash(Path(folder) for folder in folders)
    file = getattr(module, "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file and Path(file).is_file() else ""


def _accomp_code() -> str:
    return _hash(Path(str(resources.files(f"accomp.{package}"))) for package in ("core", "plugins"))


def _hash(folders: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]
