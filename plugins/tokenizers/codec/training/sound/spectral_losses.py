"""Multi-resolution spectral losses of codec training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOWS = (512, 1024, 2048, 4096)
"""Window lengths (samples) of `accomp codec measure`."""


def mel_filters(bands: int, bins: int, rate: int) -> Tensor:
    """Triangular filters [bands, bins], evenly spaced in mel = 2595 log10(1 + f / 700) from 0 Hz to rate / 2, peak 1.

    A filter narrower than a bin has weight at the bin nearest to its centre.
    """
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    f = torch.linspace(0, rate / 2, bins, dtype=torch.float64)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = torch.minimum((f - left) / (centre - left), (right - f) / (right - centre)).clamp(min=0)
    nearest = (f - centre).abs().argmin(dim=1)
    rows = torch.arange(bands)
    filters[rows, nearest] = filters[rows, nearest].clamp(min=1e-3)
    empty = filters.sum(dim=1) <= 1e-3
    filters[rows[empty], nearest[empty]] = 1.0
    return filters.float()


class SpectralDistance(nn.Module):
    """Distances between audio [B, N] and its reconstruction, mean over `windows` (samples), by default 512 to 4096.

    Parts, all relative, so that they do not depend on the level:
        log      |log m' - log m| of mel magnitudes m (floor 3e-5; a full-scale sine has m near 1)
        linear   sum |m' - m| / sum m, dominated by loud bins; the log distance alone dulls the sound
        energy   |log e' - log e| / 2 of mel energies e pooled over 8 hops: levels are right on average
        low      1 - Re <S', S> / (|S'| |S|) of the complex bins below 640 Hz: the phase of the bass
    """

    floor = 3e-5

    def __init__(self, rate: int, windows: Sequence[int] = WINDOWS):
        """`windows` must include 1024 (energy) and 2048 (low)."""
        super().__init__()
        self.windows = tuple(windows)
        self.low_bins = round(640 / (rate / 2048))
        for window in self.windows:
            self.register_buffer(f"hann_{window}", torch.hann_window(window), persistent=False)
            bands = min(160, window // 12)
            self.register_buffer(f"mel_{window}", mel_filters(bands, window // 2 + 1, rate), persistent=False)

    def forward(self, decoded: Tensor, original: Tensor) -> dict[str, Tensor]:
        """Both [B, N], N at least the longest window -> scalar parts by name. No gradient reaches `original`."""
        parts: dict[str, list[Tensor]] = {"log": [], "linear": [], "energy": [], "low": []}
        for window in self.windows:
            filters = getattr(self, f"mel_{window}")
            spectrum = self._spectrum(decoded, window)
            power = spectrum.real.square() + spectrum.imag.square()
            got = filters @ (power + 1e-12).sqrt()
            with torch.no_grad():
                wanted_spectrum = self._spectrum(original, window)
                wanted_power = wanted_spectrum.real.square() + wanted_spectrum.imag.square()
                want = filters @ (wanted_power + 1e-12).sqrt()
                total = want.sum(dim=(1, 2)).clamp(min=self.floor * want[0].numel())
            parts["log"].append(((got + self.floor).log() - (want + self.floor).log()).abs().mean())
            parts["linear"].append(((got - want).abs().sum(dim=(1, 2)) / total).mean())
            if window == 1024:
                pooled = [F.avg_pool1d(filters @ p, 8, 4) + self.floor**2 for p in (power, wanted_power)]
                parts["energy"].append((pooled[0].log() - pooled[1].log()).abs().mean() / 2)
            if window == 2048:
                a, b = spectrum[:, : self.low_bins], wanted_spectrum[:, : self.low_bins]
                dot = (a.real * b.real + a.imag * b.imag).sum(dim=(1, 2))
                sizes = [(p[:, : self.low_bins].sum(dim=(1, 2)) + 1e-6).sqrt() for p in (power, wanted_power)]
                parts["low"].append((1 - dot / (sizes[0] * sizes[1])).mean())
        return {name: torch.stack(values).mean() for name, values in parts.items()}

    def _spectrum(self, audio: Tensor, window: int) -> Tensor:
        hann = getattr(self, f"hann_{window}")
        spectrum = torch.stft(audio, window, window // 2, window=hann, center=False, return_complex=True)
        return spectrum / (window / 4)
