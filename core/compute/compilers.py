"""Requirements of torch.compile on this machine."""

from __future__ import annotations

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def cpp_compiler() -> str:
    """Return the path of the C++ compiler that torch.compile finds; empty where there is none."""
    compilers = (os.environ.get("CXX", ""), "g++", "clang++", "c++")
    return next((path for name in compilers if name and (path := shutil.which(name))), "")


def python_headers() -> bool:
    """Test for the Python headers that compiled code requires."""
    return Path(sysconfig.get_paths()["include"], "Python.h").exists()


def lacking(device: torch.device) -> str:
    """Return the missing requirement of compilation for a device, with the remedy; empty where nothing is missing."""
    if device.type == "cuda" and find_spec("triton") is None:
        return "Triton is not installed, which writes the GPU's code"
    if not cpp_compiler():
        return "this machine has no C++ compiler (Debian, Ubuntu: apt-get install g++)"
    if not python_headers():
        return "Python's headers are missing (Debian, Ubuntu: apt-get install python3-dev)"
    return ""
