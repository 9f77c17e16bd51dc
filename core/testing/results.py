"""Results of the conformance kit: properties that hold and violated ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from attrs import field, frozen
from torch import Tensor


class Mismatch(Exception):
    """A violated property; the text describes the observation."""


@frozen
class Findings:
    """Properties that hold, and violated ones with the observations."""

    held: list[str] = field(factory=list)
    failed: list[str] = field(factory=list)

    @contextmanager
    def property(self, text: str) -> Iterator[None]:
        """Check one property; the block raises where it is violated. Later properties are checked in any case."""
        try:
            yield
        except Mismatch as mismatch:
            self.failed.append(f"{text}: {mismatch}")
        except Exception as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            self.failed.append(f"{text}: raised {type(error).__name__}: {reason}")
        else:
            self.held.append(text)


def expect(true: bool | Tensor, seen: str) -> None:
    """Raise Mismatch with a description unless `true`."""
    if not bool(true):
        raise Mismatch(seen)


def expect_tensor(value: object, shape: tuple[int, ...], what: str, dtype: torch.dtype = torch.float32) -> None:
    """Raise Mismatch unless `value` is a finite tensor of that shape and dtype."""
    if not isinstance(value, Tensor):
        raise Mismatch(f"{what} is a {type(value).__name__}, expected a tensor")
    expect(tuple(value.shape) == shape, f"{what} has shape {list(value.shape)}, expected {list(shape)}")
    expect(value.dtype == dtype, f"{what} is {value.dtype}, expected {dtype}")
    if dtype.is_floating_point:
        expect(torch.isfinite(value).all(), f"{what} holds NaN or Inf")


def expect_close(value: Tensor, expected: Tensor, what: str, tolerance: float = 1e-4) -> None:
    """Raise Mismatch, with the largest difference and its place, unless the tensors agree."""
    expect(value.shape == expected.shape, f"{what}: shape {list(value.shape)}, expected {list(expected.shape)}")
    if value.numel() == 0:
        return
    difference = (value.detach().double() - expected.detach().double()).abs()
    worst = difference.max()
    at = [int(i) for i in torch.unravel_index(difference.argmax(), difference.shape)]
    expect(worst <= tolerance, f"{what}: differs by up to {float(worst):.3g}, at {at} of {list(value.shape)}")
