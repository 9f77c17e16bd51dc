"""Compilation and precision of a trained model. They should not change its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import frozen

from accomp.core.compute.compilers import lacking
from accomp.core.console import warn
from accomp.core.errors import UserError

if TYPE_CHECKING:
    import torch


Precision = Literal["float32", "bfloat16", "int8"]
Weights = Literal[Precision, "w8a8"]
Kernels = Literal["auto", "triton", "torch"]


@frozen
class Runtime:
    """The section [runtime].

    Attributes:
        compile: compile a step to one graph before playing, which takes a minute and makes it several times as fast.
            "auto": on a GPU.
        weights: "int8" stores the matrices as integers with a scale a row, and computes in float32, on a GPU in
            bfloat16; "w8a8", for CPUs, quantizes the activations as well; the other two are also the type of the
            arithmetic.
        cache: type of the cached keys and values; that of the arithmetic where absent.
        kernels: what computes single rows: "triton", few kernels of accomp's own for NVIDIA's GPUs, or "torch".
            "auto": "triton" where a step is compiled on a GPU that it supports.
    """

    compile: Literal["auto", "on", "off"] = "auto"
    weights: Weights = "float32"
    cache: Precision | None = None
    kernels: Kernels = "auto"

    def compiles(self, device: torch.device) -> bool:
        """Test whether a step is compiled on this device. Raises UserError where it must be and cannot."""
        if self.compile == "off" or (self.compile == "auto" and device.type != "cuda"):
            return False
        if why := lacking(device):
            if self.compile == "on":
                raise UserError(f'{why}; runtime.compile = "off" plays without @ runtime.compile = "on"')
            warn(f"the model plays uncompiled: {why}")
            return False
        return True

    @property
    def precision(self) -> dict[str, str | None]:
        """Return the settings that may change the output."""
        return {"weights": self.weights, "cache": self.cache}

    @property
    def cache_type(self) -> torch.dtype | None:
        """The type of the cache; None for that of the arithmetic."""
        import torch  # imported late: reading a spec and printing help do not need it

        types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
        return None if self.cache is None else types[self.cache]

    def suits(self, device: torch.device) -> bool:
        """Test whether the device supports this precision: w8a8 is for CPUs."""
        return self.weights != "w8a8" or device.type == "cpu"


EAGER = Runtime(compile="off")
"""No compilation, the model's own precision."""
