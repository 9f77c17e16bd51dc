"""Input of streams: its checks, and its division into blocks of bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def checked_audio(audio: Tensor) -> Tensor:
    """Return the audio. Raises ValueError unless it is float [B, N] without NaN and Inf."""
    if audio.dim() != 2 or not audio.is_floating_point():
        raise ValueError(f"audio is {audio.dtype} {list(audio.shape)}; expected float [B, N]")
    if not math.isfinite(audio.sum()) and not torch.isfinite(audio).all():  # the sum may overflow
        raise ValueError("audio holds NaN or Inf")
    return audio


def blocks(x: Tensor, size: int) -> Iterator[Tensor]:
    """Yield x [..., n] in blocks of up to `size`, none for n = 0."""
    yield from (x[..., i : i + size] for i in range(0, x.shape[-1], size))


def check_rows(rows: Tensor, batch: int) -> None:
    """Raise ValueError unless `rows` is a bool mask [batch]."""
    if rows.dtype != torch.bool or list(rows.shape) != [batch]:
        raise ValueError(f"rows is {rows.dtype} {list(rows.shape)}; expected bool [{batch}]")
