"""How far the textures of decoded magnitudes are from the original's: what training minimises besides distances.

A distance of magnitudes is least for the mean of what a code may stand for, in which partials and strokes are blurred.
How strongly a spectrum varies, over bands and over time at several scales, is a statistic that a blurred one lacks, and
that does not depend on where exactly it varies: spectrotemporal modulations (T. Chi, P. Ru, S. Shamma, Multiresolution
spectrotemporal analysis of complex sounds, JASA 118(2), 2005), whose energies are what makes a sound texture (J.
McDermott, E. Simoncelli, Sound texture perception via statistics of the auditory periphery, Neuron 71(5), 2011).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.networks.magnitude_network import BINS, SAMPLE_RATE, magnitudes_of
from accomp.plugins.tokenizers.codec.training.magnitude.losses import log_difference
from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import mel_filters

BANDS = 96
FLOOR = 2e-4
"""Added to a band's magnitude before its logarithm is taken: -74 dB of a full-scale sine."""
ACROSS = (0, 1, 2, 4)
"""Bands on either side of a contrast; 0: not over bands."""
ALONG = (0, 2, 4, 8, 16)
"""Sub-frames (5 ms) on either side of a contrast; 0: not over time."""
PATCH = (40, 8)
"""Sub-frames and bands over which a contrast's energy is pooled; patches overlap by half."""
FAINT = 0.02
"""Energy of contrasts that hardly count: 1.2 dB."""


class TextureDistance(nn.Module):
    """Mean |log e' - log e| of the energies e of contrasts in patches of 200 ms by 8 bands, floor FAINT.

    A contrast is the mean of log mel magnitudes above a place less the mean below it, over ACROSS bands, after it less
    before it, over ALONG sub-frames, or both: Haar wavelets of 19 shapes.
    """

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", mel_filters(BANDS, BINS, SAMPLE_RATE), persistent=False)

    def forward(self, decoded: Tensor, magnitudes: Tensor) -> Tensor:
        """log(|S| + 1e-5) as decoded and magnitudes, both [B, T, 4, 641] -> a scalar.

        No gradient reaches `magnitudes`. Scales for which a clip is too short are left out.
        """
        both = torch.stack([magnitudes_of(decoded), magnitudes]).flatten(2, 3)
        image = (both @ self.filters.T + FLOOR).log()
        apart = []
        for across in ACROSS:
            over_bands = _contrast(image, across).transpose(-1, -2)
            for along in ALONG:
                if (across or along) and 2 * along < over_bands.shape[-1]:
                    contrast = _contrast(over_bands, along).transpose(-1, -2)
                    apart.append(log_difference(*_pooled(contrast.square()), floor=FAINT))
        return torch.stack(apart).mean()


def _contrast(x: Tensor, reach: int) -> Tensor:
    """[..., n] -> the mean of `reach` values less the mean of those before [..., n - 2 * reach + 1]; x itself for 0."""
    if not reach:
        return x
    means = x.unfold(-1, reach, 1).mean(-1)
    return means[..., reach:] - means[..., :-reach]


def _pooled(energies: Tensor) -> Tensor:
    """[2, B, n, bands] -> their means over patches [2, B, ...]."""
    sizes = [min(size, have) for size, have in zip(PATCH, energies.shape[2:], strict=True)]
    return F.avg_pool2d(energies, sizes, [max(1, size // 2) for size in sizes])
