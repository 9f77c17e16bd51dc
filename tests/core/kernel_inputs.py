"""What tests of the Triton kernels share: where they run, random vectors, rings of any type and age."""

from __future__ import annotations

import pytest
import torch
from attrs import frozen
from torch import Tensor

from accomp.core.streaming.quantize import quantize

pytest.importorskip("triton", reason="Triton is not installed: the kernels cannot run, not even interpreted")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""On a CPU Triton's interpreter runs the kernels (conftest.py)."""
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Of the type of the arithmetic, relative to the largest number."""


def vectors(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def expect_near(seen: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    """Compare with the tolerance of the type; nothing may be NaN."""
    assert seen.shape == wanted.shape
    assert seen.dtype == wanted.dtype
    largest = wanted.float().abs().max()
    assert (seen.float() - wanted.float()).abs().max() <= TOLERANCE[dtype] * largest


@frozen(eq=False)
class Stored:
    """Keys or values of a ring: numbers [B, J, L, d], and the scales of an int8 one."""

    data: Tensor
    scale: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor, dtype: torch.dtype) -> Stored:
        """Store x in this type."""
        return cls(*quantize(x)) if dtype == torch.int8 else cls(x.to(dtype))

    def copy(self) -> Stored:
        """Another one with the same content."""
        return Stored(self.data.clone(), None if self.scale is None else self.scale.clone())

    def spoil(self, hidden: Tensor) -> None:
        """Make everything NaN, or as large as it can be, in the slots [B, L] that no position may read."""
        self.data.masked_fill_(hidden[:, None, :, None], 127 if self.scale is not None else torch.nan)
        if self.scale is not None:
            self.scale.masked_fill_(hidden[:, None, :, None], 1e6)

    def expect_near(self, other: Stored, slots: Tensor, dtype: torch.dtype) -> None:
        """Compare what is in the slots [B, L], integers up to one step."""
        rows = slots[:, None, :, None]
        if self.scale is None or other.scale is None:
            expect_near(self.data.where(rows, 0.0), other.data.where(rows, 0.0), dtype)
            return
        assert ((self.data.int() - other.data.int()).where(rows, 0)).abs().max() <= 1
        torch.testing.assert_close(self.scale.where(rows, 0.0), other.scale.where(rows, 0.0))

    def equal(self, other: Stored, slots: Tensor) -> bool:
        """Whether the slots [B, L] hold the same bits."""
        rows = slots[:, None, :, None]
        scales = [torch.zeros(1) if one.scale is None else one.scale.where(rows, 0.0) for one in (self, other)]
        mine, theirs = (one.data.where(rows, torch.zeros_like(one.data)).nan_to_num() for one in (self, other))
        return torch.equal(mine, theirs) and torch.equal(*scales)
