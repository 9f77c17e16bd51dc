"""How a trained model plays on a machine: compiled or not, and in which precision. What it plays should not change."""

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


@frozen
class Runtime:
    """The section [runtime].

    Attributes:
        compile: whether a step becomes one compiled graph before the music starts, which takes a minute and makes it
            several times as fast. "auto": on a GPU.
        weights: "int8" keeps the matrices as whole numbers with a scale a row, and computes in float32, on a GPU in
            bfloat16; "w8a8", for CPUs, makes what they are multiplied with whole numbers as well; the other two are
            what is computed in, too.
        cache: what keys and values are remembered in; that of the weights' arithmetic where absent.
    """

    compile: Literal["auto", "on", "off"] = "auto"
    weights: Weights = "float32"
    cache: Precision | None = None

    def compiles(self, device: torch.device) -> bool:
        """Whether a step is compiled on this device. Raises UserError where it must be and cannot."""
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
        """What of it may change the music."""
        return {"weights": self.weights, "cache": self.cache}

    @property
    def cache_type(self) -> torch.dtype | None:
        """The type of the cache; None for that of the arithmetic."""
        import torch  # here, since a spec is read, and help given, without it

        types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
        return None if self.cache is None else types[self.cache]

    def suits(self, device: torch.device) -> bool:
        """Whether the device can compute in this precision: w8a8 is for CPUs."""
        return self.weights != "w8a8" or device.type == "cpu"


EAGER = Runtime(compile="off")
"""Nothing is compiled, in the model's own precision."""
