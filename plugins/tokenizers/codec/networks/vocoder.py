"""A vocoder of the `magnitude` codec: corrects the settled spectra of the phase rule for each bin before synthesis.

The rule leaves errors of phase: transients whose position cannot be predicted from earlier frames, and noise between
partials. The inputs of the network are the spectra S of the rule and their latents. Its output for every bin is a
complex u, bounded as
    S' = S (1 + a),  a = 2 u / sqrt(1 + |u|^2),
so that any phase and up to three times the magnitude are possible, u = 0 is the identity, and silence is preserved.
Roots and quotients are bit-identical on all machines, unlike tanh.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.networks.magnitude_network import (
    BANDS_FLOOR,
    BINS,
    DELAY,
    HOP,
    SAMPLE_RATE,
    STEP,
    SUBFRAMES,
    WINDOW,
    FrameBlock,
    filters_of,
    through,
)
from accomp.plugins.tokenizers.codec.streams.causal import History

REACH = 2.0
"""Upper bound of |a|; allows a reversal of the phase."""
FEATURES = 5
"""Of a band of a sub-frame; see Relations."""


class Relations(nn.Module):
    """Spectra [B, n, 2, 641] -> 5 features a band [B, n, 5 * bands]: level and phase continuation.

    With |S|^2 as a band's mean of a frame n, P = log(|S_n|^2 + floor^2) / 8 + 1.5, the mean of the products
    S_n[m] conj(S_{n-1}[m]) less the turn of a bin's middle over the mean of |S_n[m]|^2 and |S_{n-1}[m]|^2, and that of
    S_n[m + 1] conj(S_n[m]) likewise. These are complex numbers in the unit circle, invariant under a common rotation of
    all phases. For sustained partials the first is constant at 0.90 and the second at 2/3; for an impulse the second is
    on the circle, at an angle that gives its position; for noise both vary from frame to frame.
    """

    bands: Tensor
    turn: Tensor

    def __init__(self, bands: int):
        super().__init__()
        self.register_buffer("bands", filters_of(bands), persistent=False)
        angle = 2 * math.pi * STEP / WINDOW * torch.arange(BINS, dtype=torch.float64)
        self.register_buffer("turn", torch.stack([angle.cos(), angle.sin()]), persistent=False)

    def forward(self, spectra: Tensor, history: History) -> Tensor:
        whole = history.extend(self, spectra, 1, dim=1)
        before, now = whole[:, :-1], whole[:, 1:]
        above = F.pad(now[..., 1:], (0, 1))
        cos, sin = self.turn.to(spectra)
        on, off = _product(now, before)
        power, earlier, higher = (x.square().sum(2) for x in (now, before, above))
        planes = torch.stack([power, on * cos + off * sin, off * cos - on * sin, *_product(above, now)], dim=2)
        means, over_time, over_bins = (
            x @ self.bands.to(spectra).T for x in (planes, (power + earlier) / 2, (power + higher) / 2)
        )
        floor = BANDS_FLOOR**2
        loud = (means[:, :, :1] + floor).log() / 8 + 1.5
        steady, placed = means[:, :, 1:3], means[:, :, 3:]
        ratios = steady / (over_time + floor)[:, :, None], placed / (over_bins + floor)[:, :, None]
        return torch.cat([loud, *ratios], dim=2).flatten(2)


def _product(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return real and imaginary part of x conj(y); both are [..., 2, bins]."""
    (a, b), (c, d) = x.unbind(-2), y.unbind(-2)
    return a * c + b * d, b * c - a * d


@frozen(kw_only=True)
class VocoderSizes:
    """Sizes of a Vocoder.

    Attributes:
        bands: mel bands of a sub-frame in the input features.
        width, hidden: widths of the blocks; multiples of 4.
        blocks, kernel: number of blocks, and frames of a kernel.
    """

    bands: int = field(default=32, validator=[v.instance_of(int), v.gt(0)])
    width: int = field(default=192, validator=[v.instance_of(int), v.gt(0)])
    hidden: int = field(default=576, validator=[v.instance_of(int), v.gt(0)])
    blocks: int = field(default=3, validator=[v.instance_of(int), v.ge(0)])
    kernel: int = field(default=7, validator=[v.instance_of(int), v.gt(0)])

    @width.validator
    @hidden.validator
    def _in_fours(self, attribute: attrs.Attribute, value: int) -> None:
        if value % 4:
            raise ValueError(f"{attribute.name} {value}; expected a multiple of 4")


class Vocoder(nn.Module):
    """Causal blocks over frames of 4 sub-frames; untrained, it is the identity."""

    sample_rate = SAMPLE_RATE
    hop = HOP
    delay = DELAY
    mixed = False
    """True for blocks in bfloat16, in training only."""
    spread: Tensor

    def __init__(self, *, latent: int, bands: int, width: int, hidden: int, blocks: int, kernel: int):
        """`latent`: size of a latent; for the others see VocoderSizes."""
        super().__init__()
        self.relations = Relations(bands)
        self.register_buffer("spread", torch.ones(()))
        self.enter = nn.Linear(SUBFRAMES * FEATURES * bands + latent, width)
        self.blocks = nn.ModuleList(FrameBlock(width, hidden, kernel) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, SUBFRAMES * 2 * BINS)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, spectra: Tensor, z: Tensor, history: History) -> Tensor:
        """Settled spectra [B, T * 4, 2, 641] and latents [B, T, E] -> corrected spectra, in the latents' dtype."""
        spectra = spectra.to(z)
        related = self.relations(spectra, history).unflatten(1, (-1, SUBFRAMES)).flatten(2)
        x = torch.cat([related, z / self.spread], dim=-1)
        u = through(self.enter, self.blocks, self.norm, self.leave, x, history, mixed=self.mixed)
        return corrected(spectra, u.reshape(spectra.shape))

    def layers(self) -> tuple[Any, Any, Any, Any]:
        """First layer, blocks, norm and last layer."""
        return self.enter, self.blocks, self.norm, self.leave


def corrected(spectra: Tensor, u: Tensor) -> Tensor:
    """S (1 + 2 u / sqrt(1 + |u|^2)); both [B, n, 2, bins]."""
    real, imaginary = (REACH * u / (1 + u.square().sum(2, keepdim=True)).sqrt()).unbind(2)
    a, b = spectra.unbind(2)
    return torch.stack([a + (a * real - b * imaginary), b + (a * imaginary + b * real)], dim=2)
