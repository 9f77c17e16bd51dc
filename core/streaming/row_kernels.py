"""How attention over the KV cache, and the rest of a row, is computed on which device. The choice is made here.

| positions a call | device | by |
|---|---|---|
| one, with keys of its own for every query head | CPU | torch, in loops that the compiler fuses (`in_loops`) |
| one | a GPU, compiled | Triton's kernels: keys, values and matrices read once, as they are stored (`row_kernels`) |
| any | any | torch's scaled_dot_product_attention; the queries that share keys form one product |
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from accomp.core.errors import UserError
from accomp.core.spec.runtime import Runtime
from accomp.core.streaming.quantize import Int8Linear, W8A8Linear

FEW = 4
"""Up to this many vectors, one session with its variants of guidance, are multiplied by the kernel, more by torch."""
EPS = torch.finfo(torch.float32).eps
"""Of torch's RMS norms that name none, for bfloat16 as well."""
PROCESSORS_OF_A_CPU = 4
"""What Triton's interpreter pretends to, so that attention is split there, too."""

Activation = Literal["", "silu", "swiglu"]


@frozen(eq=False)
class RowKernels:
    """What a layer of a row consists of, in few kernels (core/streaming/kernels).

    Attributes:
        processors: of the GPU, among which the positions of few heads are divided.
        arrived: [B * J] int32, zeros between calls: parts of attention that are done, for each key head.
    """

    processors: int
    arrived: Tensor

    def project(
        self,
        h: Tensor,
        linear: nn.Linear | Int8Linear,
        *,
        norm: nn.RMSNorm | None = None,
        activation: Activation = "",
        residual: Tensor | None = None,
    ) -> Tensor:
        """Compute residual + activation(linear(norm(h))): h [B, 1, D] -> [B, 1, out]."""
        if len(h) > FEW or isinstance(linear, W8A8Linear):
            return project_in_torch(h, linear, norm=norm, activation=activation, residual=residual)
        from accomp.core.streaming.kernels.projection import project

        whole = isinstance(linear, Int8Linear)
        y = project(
            h[:, 0],
            linear.whole if isinstance(linear, Int8Linear) else linear.weight,
            activation,
            EPS if norm is None or norm.eps is None else norm.eps,
            linear.scale if whole else None,
            linear.bias,
            None if norm is None else norm.weight,
            None if residual is None else residual[:, 0],
        )
        return y[:, None]

    def attend(
        self,
        qkv: Tensor,
        qk_scale: Tensor,
        cos: Tensor,
        sin: Tensor,
        position: Tensor,
        window: int,
        pinned_start: int,
        keys: tuple[Tensor, Tensor | None],
        values: tuple[Tensor, Tensor | None],
    ) -> Tensor:
        """Store the key and value of a row's qkv [B, (H + 2 J) d] in place, and attend to the window of its position
        [B] and the pinned positions -> [B, H d].
        """
        from accomp.core.streaming.kernels.ring_attention import attend, splits_of

        splits = splits_of(window, keys[0].shape[0] * keys[0].shape[1], self.processors)
        return attend(
            qkv, qk_scale, cos, keys[0], values[0], sin, position, self.arrived, EPS, window, pinned_start, splits,
            keys[1], values[1],
        )  # fmt: skip


def project_in_torch(
    h: Tensor, linear: nn.Module, *, norm: nn.Module | None, activation: Activation, residual: Tensor | None
) -> Tensor:
    """As RowKernels.project, for any number of vectors."""
    y = linear(h if norm is None else norm(h))
    if activation == "swiglu":
        gate, value = y.chunk(2, dim=-1)
        y = F.silu(gate) * value
    elif activation == "silu":
        y = F.silu(y)
    return y if residual is None else residual + y


def in_loops(q: Tensor) -> bool:
    """Test whether torch attends with q [B, J, n, d] in loops: one vector for each key head, on a CPU."""
    return q.shape[2] == 1 and not q.is_cuda


def row_kernels(runtime: Runtime, device: torch.device, *, compiled: bool, heads: int) -> RowKernels | None:
    """Choose: the kernels for a compiled step on a GPU, and wherever the runtime asks for them; else None, torch.

    Uncompiled, each launch of a kernel would cost more time than the kernel takes.

    Args:
        heads: B * J, key heads of all sessions.

    Raises UserError where the runtime asks for what this machine lacks.
    """
    wanted = runtime.kernels == "triton" or (runtime.kernels == "auto" and compiled)
    if not wanted:
        return None
    if why := _lacking(device):
        if runtime.kernels == "triton":
            raise UserError(f'{why}; runtime.kernels = "torch" plays without @ runtime.kernels = "triton"')
        return None
    from accomp.core.streaming.kernels import projection, ring_attention  # noqa: F401 - operators that a kept graph names

    processors = PROCESSORS_OF_A_CPU
    if device.type == "cuda":
        processors = torch.cuda.get_device_properties(device).multi_processor_count
    return RowKernels(processors, torch.zeros(heads, dtype=torch.int32, device=device))


def _lacking(device: torch.device) -> str:
    """Return what the kernels lack on a device; empty where nothing is missing."""
    if find_spec("triton") is None:
        return "Triton is not installed, which the kernels are written in"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "" if device.type == "cpu" else "TRITON_INTERPRET=1 runs the kernels on a CPU only"
    if device.type != "cuda" or torch.version.cuda is None:
        return f"Triton's kernels are for NVIDIA's GPUs, and this device is {device.type!r}"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "Triton's kernels need a GPU of compute capability 8.0 or later (Ampere)"
    return ""
