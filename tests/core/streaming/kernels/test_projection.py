"""Norm, matrix, activation and residual in one kernel equal the same in torch."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import expect_near, vectors
from torch import Tensor

from accomp.core.streaming.kernels.projection import project, project_in_torch
from accomp.core.streaming.quantize import quantize

OUTPUTS = 70
"""More than a block, and no multiple of one."""


def parts(rows: int, inner: int, matrix: int, dtype: torch.dtype, whole: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    x, w = vectors(rows, inner, seed=1, dtype=dtype), vectors(matrix, inner, seed=2)
    if not whole:
        return x, w.to(dtype), None
    data, scale = quantize(w)
    return x, data, scale[:, 0].to(dtype)


@pytest.mark.parametrize("whole", [False, True], ids=["as x", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation", ["", "silu", "swiglu"])
def test_it_is_the_product_in_torch(activation, dtype, whole):
    rows, matrix = 2, OUTPUTS * (2 if activation == "swiglu" else 1)
    x, weight, scale = parts(rows, 40, matrix, dtype, whole)
    more = {
        "scale": scale,
        "bias": vectors(matrix, seed=3, dtype=dtype),
        "norm": vectors(40, seed=4, dtype=dtype),
        "residual": vectors(rows, OUTPUTS, seed=5, dtype=dtype),
    }
    expect_near(
        project(x, weight, activation, 1e-3, **more), project_in_torch(x, weight, activation, 1e-3, **more), dtype
    )


@pytest.mark.parametrize("rows", [1, 3, 4])
@pytest.mark.parametrize("inner", [16, 1100], ids=["one block", "blocks"])
@pytest.mark.parametrize("left_out", ["bias", "norm", "residual"])
def test_each_part_may_be_left_out(left_out, inner, rows):
    x, weight, _ = parts(rows, inner, 6, torch.float32, False)
    more = {"bias": vectors(6, seed=3), "norm": vectors(inner, seed=4), "residual": vectors(rows, 6, seed=5)}
    del more[left_out]
    expect_near(project(x, weight, "", 1e-6, **more), project_in_torch(x, weight, "", 1e-6, **more), torch.float32)


def test_the_reference_is_independent_arithmetic():
    x, w, norm, residual = vectors(1, 8), vectors(6, 8, seed=1), vectors(8, seed=2), vectors(1, 3, seed=3)
    normed = x[0] / (x[0].pow(2).mean() + 0.5).sqrt() * norm
    gate, value = w[:3] @ normed, w[3:] @ normed
    wanted = residual + gate / (1 + (-gate).exp()) * value
    torch.testing.assert_close(project_in_torch(x, w, "swiglu", 0.5, norm=norm, residual=residual), wanted)
