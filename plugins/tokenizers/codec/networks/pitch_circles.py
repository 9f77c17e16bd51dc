"""Pitch within a semitone, in dimensions of its own that are quantized with the magnitudes.

Coded magnitudes tell a partial's frequency to some 10 to 60 cents. What is missing is its place between two notes, a
number on a circle: the fractional part of 12 log2(f / 440 Hz), one for each band of about an octave, and for the lowest
bands also the place on circles of four semitones, since magnitudes alone confuse semitones there. A circle's
number is the mean of exp(2 pi i 12 log2(f / 440 Hz) / semitones) over the band's partials. Its absolute value is the
share of the band's energy in steady partials that agree, near 0 for noise and glides, so that only tones need bits. In
music that is tuned to 440 Hz it is always near 1: nearly constant and predictable.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

CONCERT = 440.0
"""Hz at which every circle has the angle 0."""


@frozen
class Circle:
    """Where in `semitones` the partials between `low` and `high` Hz lie.

    Attributes:
        scale: its radius among the latents.
        hazy, clear: absolute values of its number: frequencies stay as they are, and move to its angle.
    """

    low: float
    high: float
    semitones: int
    scale: float
    hazy: float
    clear: float

    def angle(self, hertz: Tensor) -> Tensor:
        """Frequencies -> radians."""
        return 2 * math.pi * 12 / self.semitones * torch.log2(hertz / CONCERT)


CIRCLES = (
    Circle(27.0, 52.0, 4, 9.8, 0.35, 0.6),
    Circle(52.0, 95.0, 4, 9.8, 0.35, 0.6),
    Circle(95.0, 170.0, 4, 8.4, 0.35, 0.6),
    Circle(27.0, 95.0, 1, 11.2, 0.2, 0.5),
    Circle(95.0, 170.0, 1, 11.2, 0.2, 0.5),
    Circle(170.0, 290.0, 1, 11.2, 0.2, 0.5),
    Circle(290.0, 480.0, 1, 11.2, 0.2, 0.5),
    Circle(480.0, 850.0, 1, 9.8, 0.2, 0.5),
)
"""Wide circles first: a frequency is moved by them in this order. Their bands are so narrow that the third partial of a
note, which lies elsewhere on them, is in another than its first two; and they must be clearer, since on them two notes
do not agree, whose mean is neither."""
SIZE = 2 * len(CIRCLES)
"""Latents: real and imaginary part of each circle's number, times its scale."""
EARLIER = 160
"""Samples between the two windows whose phases give frequencies."""
HEARD = 200
"""Lowest bins of the long window among which partials are looked for: up to 1.56 kHz."""
ASTRAY = 1.0
"""Bins: a partial's frequency lies within that of the bins it dominates."""
APART = 2.0
"""Hz: a bin counts less the more its frequency differs from its neighbours', and not at all from here on."""
LOWEST = 10.0
"""Hz: no frequency is taken to be lower."""
NEAR_DB, FAR_DB = -10.0, -40.0
"""Of a band below all bands: it counts in full, and not at all."""
SOFT_DB, SILENT_DB = -55.0, -75.0
"""Of a band below a full-scale sine: likewise."""
TINY = 1e-12
"""Added to energies."""


def circles_of(now: Tensor, earlier: Tensor, spacing: float) -> Tensor:
    """Complex spectra [..., bins], the second EARLIER samples before the first -> circles [..., SIZE], not scaled.

    spacing: Hz between bins. A bin's frequency is what its phase advanced from the one spectrum to the other.
    """
    now, earlier = now[..., :HEARD], earlier[..., :HEARD]
    bins = torch.arange(HEARD, device=now.device, dtype=now.real.dtype)
    energy = torch.minimum(now.abs(), earlier.abs()).square()
    astray = astray_by((now * earlier.conj()).angle(), bins, spacing)
    hertz = ((bins + astray) * spacing).clamp(min=LOWEST)
    steps = (hertz[..., 1:] - hertz[..., :-1]).abs()
    beside = torch.minimum(F.pad(steps, (1, 0), value=APART), F.pad(steps, (0, 1), value=APART))
    steady = energy * (astray.abs() < ASTRAY) * (1 - beside / APART).clamp(min=0)
    whole = energy.sum(-1) + TINY
    found = []
    for circle in CIRCLES:
        partials = steady * ((hertz >= circle.low) & (hertz < circle.high))
        inside = (bins * spacing >= circle.low) & (bins * spacing < circle.high)
        band = torch.maximum((energy * inside).sum(-1), partials.sum(-1)) + TINY
        angle = circle.angle(hertz)
        mean = (
            torch.stack([(partials * angle.cos()).sum(-1), (partials * angle.sin()).sum(-1)], dim=-1) / band[..., None]
        )
        size = mean.square().sum(-1, keepdim=True).sqrt()
        found.append(mean * size * (_from(band / whole, FAR_DB, NEAR_DB) * _from(band, SILENT_DB, SOFT_DB))[..., None])
    return torch.cat(found, dim=-1)


def astray_by(turned: Tensor, bins: Tensor, spacing: float, rate: float = 32_000.0) -> Tensor:
    """Phase advances (rad) of bins in EARLIER samples -> how far their frequencies lie from their middles (bins)."""
    turn = 2 * math.pi * EARLIER * spacing / rate
    more = turned - turn * bins
    return (more - 2 * math.pi * torch.round(more / (2 * math.pi))) / turn


def _from(energy: Tensor, none: float, all_: float) -> Tensor:
    """Energy -> 0 at `none` dB and below, 1 at `all_` dB and above."""
    return ((10 * torch.log10(energy) - none) / (all_ - none)).clamp(0, 1)


def scaled(circles: Tensor) -> Tensor:
    """Circles [..., SIZE] -> latents."""
    return circles * _scales(circles)


def unscaled(latents: Tensor) -> Tensor:
    """Latents [..., SIZE] -> circles."""
    return latents / _scales(latents)


def _scales(like: Tensor) -> Tensor:
    return torch.tensor([circle.scale for circle in CIRCLES], dtype=like.dtype, device=like.device).repeat_interleave(2)


def moved(hertz: Tensor, circles: Tensor) -> Tensor:
    """Frequencies [..., m] by other means -> the nearest that circles [..., SIZE] name, where these are clear."""
    for i, circle in enumerate(CIRCLES):
        real, imaginary = circles[..., 2 * i, None], circles[..., 2 * i + 1, None]
        size = (real * real + imaginary * imaginary).sqrt()
        inside = (hertz >= circle.low) & (hertz < circle.high)
        sure = ((size - circle.hazy) / (circle.clear - circle.hazy)).clamp(0, 1) * inside
        turns = (torch.atan2(imaginary, real) - circle.angle(hertz.clamp(min=LOWEST))) / (2 * math.pi)
        hertz = hertz * torch.exp2(sure * (turns - torch.round(turns)) * (circle.semitones / 12))
    return hertz
