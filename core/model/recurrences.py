"""Banks of linear recurrences, for a whole clip or frame by frame: leaky integrators and resonators.

They are diagonal state spaces (arXiv 2206.11893).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Bank(NamedTuple):
    """M independent recurrences z_t = a z_{t-1} + (1 - |a|) v_t.

    With real a they are leaky integrators, and z and v are [..., 1, M]. With complex a they are resonators, which turn
    on by the angle of a in every frame; z and v are [..., 2, M], real and imaginary parts.

    Attributes:
        decay: log |a| [M].
        angle: of a [M]; None if it is real.
    """

    decay: Tensor
    angle: Tensor | None = None

    def zeros(self, rows: int) -> Tensor:
        """The z before the first frame [rows, 1 or 2, M]."""
        return self.decay.new_zeros(rows, 1 if self.angle is None else 2, len(self.decay))

    def scan(self, v: Tensor) -> Tensor:
        """All z of clips v [B, T, ., M] that begin with z = 0 -> [B, T, ., M]."""
        frames = v.shape[1]
        time = torch.arange(frames, device=v.device)[:, None]
        kernel = (time * self.decay).exp() * self._gain
        n = 2 * frames  # no frame wraps around
        if self.angle is None:
            spectra = torch.fft.rfft(v[:, :, 0], n, dim=1) * torch.fft.rfft(kernel, n, dim=0)
            return torch.fft.irfft(spectra, n, dim=1)[:, :frames, None]
        turning = torch.polar(kernel, time * self.angle)
        spectra = torch.fft.fft(torch.complex(v[:, :, 0], v[:, :, 1]), n, dim=1) * torch.fft.fft(turning, n, dim=0)
        z = torch.fft.ifft(spectra, dim=1)[:, :frames]
        return torch.stack([z.real, z.imag], dim=2)

    def advance(self, z: Tensor, v: Tensor) -> Tensor:
        """The next z [B, ., M] from the last one and v [B, ., M]."""
        size = self.decay.exp()
        if self.angle is not None:
            z = times(z, torch.stack([self.angle.cos(), self.angle.sin()]))
        return size * z + self._gain * v

    @property
    def _gain(self) -> Tensor:
        """1 - |a|."""
        return -torch.expm1(self.decay)


def times(a: Tensor, b: Tensor) -> Tensor:
    """Products of complex numbers [..., 2, M]: real arithmetic, of which torch.compile makes code."""
    (x, y), (u, v) = a.unbind(-2), b.unbind(-2)
    return torch.stack([x * u - y * v, x * v + y * u], dim=-2)


def against(a: Tensor, b: Tensor) -> Tensor:
    """As `times`, with the conjugate of b: the phase of each a relative to its b."""
    (x, y), (u, v) = a.unbind(-2), b.unbind(-2)
    return torch.stack([x * u + y * v, y * u - x * v], dim=-2)
