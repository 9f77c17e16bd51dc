"""The precision of a trained model in use."""

from __future__ import annotations

import copy
from typing import Any

from accomp.core.errors import UserError
from accomp.core.model.accompanist import Accompanist
from accomp.core.spec.runtime import Runtime
from accomp.core.streaming.quantize import Int8Linear, W8A8Linear, to_int8


def prepared(model: Accompanist, runtime: Runtime) -> Any:
    """Convert the model to the precision of `runtime`: itself where nothing changes, else an inference-only copy.

    Raises UserError for w8a8 on a GPU.
    """
    if runtime.weights == "float32":
        return model
    if not runtime.suits(model.device):
        raise UserError('"w8a8" is for CPUs; a GPU computes with "int8" weights in bfloat16 @ runtime.weights')
    other = copy.deepcopy(model)
    if runtime.weights == "bfloat16" or model.device.type == "cuda":
        other = other.bfloat16()
    if runtime.weights in ("int8", "w8a8"):
        to_int8(other, Int8Linear if runtime.weights == "int8" else W8A8Linear)
    return other
