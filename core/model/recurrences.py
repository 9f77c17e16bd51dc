"""Linear recurrences of independent numbers, z_t = a z_{t-1} + (1 - |a|) v_t, for a whole clip or frame by frame.

With a real they are leaky integrators, with a complex resonators, which turn on by the angle of a in every frame (the
diagonal state spaces of arXiv 2206.11893).
"""

from __future__ import annotations

import torch
from torch import Tensor


def scan(v: Tensor, log_a: Tensor) -> Tensor:
    """All z of clips v [B, T, M] that begin with z = 0 -> [B, T, M]; log_a [M], real or complex as v is."""
    frames = v.shape[1]
    kernel = (torch.arange(frames, device=v.device)[:, None] * log_a).exp() * _gain(log_a)
    n = 2 * frames  # no frame wraps around
    if v.is_complex():
        return torch.fft.ifft(torch.fft.fft(v, n, dim=1) * torch.fft.fft(kernel, n, dim=0), dim=1)[:, :frames]
    return torch.fft.irfft(torch.fft.rfft(v, n, dim=1) * torch.fft.rfft(kernel, n, dim=0), n, dim=1)[:, :frames]


def advance(z: Tensor, v: Tensor, log_a: Tensor) -> Tensor:
    """The next z [B, M] from the last one and v [B, M]."""
    return log_a.exp() * z + _gain(log_a) * v


def _gain(log_a: Tensor) -> Tensor:
    """1 - |a|."""
    return -torch.expm1(log_a.real if log_a.is_complex() else log_a)
