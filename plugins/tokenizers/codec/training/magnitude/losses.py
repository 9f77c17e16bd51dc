"""What training of the `magnitude` codec minimises: how far magnitudes are from those of the original."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.networks.magnitude_network import BINS, SAMPLE_RATE, magnitudes_of
from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import mel_filters

BROAD, COARSE, FINE = 8, 32, 128
"""Mel bands in which magnitudes are compared."""
BIN_FLOOR, BAND_FLOOR, ENERGY_FLOOR = 1e-4, 3e-5, 1e-9
POOL = 8
"""Sub-frames (40 ms) over which energies are pooled."""
MASKED = 0.005
"""Times the loudest bin within half a kHz: what is softer hides behind that one, and its logarithm hardly counts."""
_REACH, _EVERY = 20, 10  # bins: how far masking reaches, and how often it is looked up
TUNED = 256
"""Lowest bins (up to 6.4 kHz) whose slopes are compared."""


class MagnitudeDistance(nn.Module):
    """Distances between log(|S| + 1e-5) as decoded [B, T, 4, 641] and magnitudes [B, T, 4, 641]:

    bin      mean |log difference|, bins weighted by 1 / (f + 400 Hz), floor 1e-4 and MASKED
    slope    mean |difference of log(|S_m+1| / |S_m-1|)|, bins weighted by the root of |S_m|: where between two bins a
             partial lies, and so its pitch
    growth   mean |difference of log(|S_t+1| / |S_t|)| from sub-frame to sub-frame, bins weighted by the root of the
             softer |S|: steady partials stay steady
    mel      mean |log m' - log m| of mel magnitudes m (32 and 128 bands, floor 3e-5)
    linear   sum |m' - m| / sum m of the same, which weighs what is loud
    energy   |log e' - log e| / 2 of energies e in 32 bands, pooled over 8 sub-frames: no level is lost to blur
    level    the same, pooled over the clip
    loud     the same in 8 bands, pooled over 8 sub-frames, bands weighted by the root of their magnitudes: a lone tone,
             which is one band among silent ones, keeps its level wherever codes leave its place open
    """

    weight: Tensor
    broad: Tensor
    coarse: Tensor
    fine: Tensor

    def __init__(self) -> None:
        super().__init__()
        weight = 1 / (torch.linspace(0, SAMPLE_RATE / 2, BINS) + 400)
        self.register_buffer("weight", weight / weight.mean(), persistent=False)
        for name, bands in (("broad", BROAD), ("coarse", COARSE), ("fine", FINE)):
            self.register_buffer(name, mel_filters(bands, BINS, SAMPLE_RATE), persistent=False)

    def forward(self, decoded: Tensor, magnitudes: Tensor) -> dict[str, Tensor]:
        """Scalars by name; no gradient reaches `magnitudes`."""
        got = magnitudes_of(decoded)
        floor = BIN_FLOOR + MASKED * _surroundings(magnitudes)
        logs, wanted = (got + floor).log(), (magnitudes + floor).log()
        parts = {"bin": ((logs - wanted).abs() * self.weight).mean()}
        slopes = (one[..., 2 : TUNED + 2] - one[..., :TUNED] for one in (logs, wanted))
        parts["slope"] = _where_loud(torch.sub(*slopes), magnitudes[..., 1 : TUNED + 1])
        rows, then = magnitudes.flatten(1, 2), [one.flatten(1, 2).diff(dim=1) for one in (logs, wanted)]
        parts["growth"] = _where_loud(torch.sub(*then), torch.minimum(rows[:, 1:], rows[:, :-1]))
        mel, linear = [], []
        for filters in (self.coarse, self.fine):
            a, b = got @ filters.T, magnitudes @ filters.T
            mel.append(log_difference(a, b, floor=BAND_FLOOR))
            linear.append(((a - b).abs().sum((1, 2, 3)) / b.sum((1, 2, 3)).clamp(min=1e-2)).mean())
        energies = [m.square().flatten(1, 2) for m in (got, magnitudes)]
        a, b = (e @ self.coarse.T for e in energies)
        broad = [_pooled(e @ self.broad.T) for e in energies]
        return parts | {
            "mel": torch.stack(mel).mean(),
            "linear": torch.stack(linear).mean(),
            "energy": log_difference(_pooled(a), _pooled(b), floor=ENERGY_FLOOR) / 2,
            "level": log_difference(a.mean(1), b.mean(1), floor=ENERGY_FLOOR) / 2,
            "loud": _where_loud(torch.sub(*((e + ENERGY_FLOOR).log() for e in broad)), broad[1].sqrt()) / 2,
        }


def _where_loud(difference: Tensor, magnitudes: Tensor) -> Tensor:
    """Mean over frames of |difference| [..., bins], bins weighted by the root of their magnitudes."""
    weight = magnitudes.sqrt()
    return (difference.abs() * weight / (weight.sum(-1, keepdim=True) + 1e-2)).sum(-1).mean()


def _pooled(energies: Tensor) -> Tensor:
    """[B, sub-frames, bands] -> their means over POOL sub-frames, half of which overlap [B, ., bands]."""
    return F.avg_pool1d(energies.transpose(1, 2), POOL, POOL // 2).transpose(1, 2)


def _surroundings(magnitudes: Tensor) -> Tensor:
    """The loudest of the bins around each, of that size [B, T, 4, 641]."""
    rows = magnitudes.flatten(0, 2)[:, None]
    loudest = F.max_pool1d(rows, 2 * _REACH, _EVERY, padding=_REACH)[:, 0]
    nearest = (torch.arange(magnitudes.shape[-1], device=rows.device) + _EVERY // 2) // _EVERY
    return loudest[:, nearest].view_as(magnitudes)


def log_difference(a: Tensor, b: Tensor, *, floor: float) -> Tensor:
    """Mean |log a - log b| of what is at least 0, with `floor` added to both."""
    return ((a + floor).log() - (b + floor).log()).abs().mean()
