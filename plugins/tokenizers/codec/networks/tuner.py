"""Estimation of the lowest bins' frequencies from codes, as a correction of that from the slopes of magnitudes.

The slopes of a partial's peak give its position between two bins, 25 Hz apart. But coded magnitudes have errors of
decibels, and the partials of a bass overlap. Codes contain more information on pitch than these slopes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.networks.frame_blocks import FrameBlock, through
from accomp.plugins.tokenizers.codec.phase.framing import SILENT
from accomp.plugins.tokenizers.codec.phase.peaks import over_time
from accomp.plugins.tokenizers.codec.streams.causal import History

TUNED = 96
"""Number of lowest bins whose frequencies are estimated: up to 2.4 kHz."""
REACH = 2.0
"""Bins that a frequency may be moved by: a Hann window's main lobe."""
CLOSE = 0.02
"""Bins: errors of frequency beyond it count by their size, those below by their square."""
NEAR = 2
"""Bins to either side among which the loudest has a frequency that matters."""


class Tuner(nn.Module):
    """Input of the decoder's last layer, and circles -> corrections (bins) of the lowest bins' frequencies by slopes.

    It has causal blocks of its own; its output begins at zero.
    """

    mixed = False
    """Whether blocks compute in bfloat16, as training may."""

    def __init__(self, inputs: int, width: int, hidden: int, blocks: int, kernel: int, subframes: int):
        super().__init__()
        self.subframes = subframes
        self.enter = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(FrameBlock(width, hidden, kernel) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, subframes * TUNED)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, features: Tensor, history: History) -> Tensor:
        """[B, T, inputs] -> bins [B, T * subframes, TUNED], within REACH."""
        said = through(self.enter, self.blocks, self.norm, self.leave, features, history, mixed=self.mixed)
        return bounded(said.unflatten(2, (self.subframes, TUNED)).flatten(1, 2))


def bounded(said: Tensor) -> Tensor:
    """Anything -> within REACH, by operations that give the same bits everywhere."""
    return REACH * said / (1 + said.abs())


@torch.no_grad()
def by_slopes(magnitudes: Tensor) -> Tensor:
    """Magnitudes [..., bins] -> how far the lowest bins' frequencies lie from their middles [..., TUNED], by slopes."""
    rows = magnitudes[..., : TUNED + 1].clamp(min=SILENT).flatten(0, -2)
    return over_time(rows, 1.0)[:, :TUNED].view(*magnitudes.shape[:-1], TUNED)


@torch.no_grad()
def true_tuning(audio: Tensor, window: int, step: int) -> tuple[Tensor, Tensor]:
    """audio [B, n * step] -> the frequencies that dominate the lowest bins, and how much they matter [B, n, TUNED].

    Frames are windows of `window` samples that end with sample step * (i + 1). The frequency is what the phase advanced
    from the frame before, off the bin's middle, in bins; it is unambiguous up to window / step / 2 bins. It matters
    at spectral peaks that both frames have, and most in low bins, where a hertz is most of a semitone.
    """
    taper = torch.hann_window(window, dtype=audio.dtype, device=audio.device)
    heard = F.pad(audio, (window, 0)).unfold(1, window, step)
    spectra = torch.fft.rfft(heard * (taper / (taper.sum() / 2)))[..., :TUNED]
    bins = torch.arange(TUNED, device=audio.device)
    turn = 2 * math.pi * step / window
    ahead = (spectra[:, 1:] * spectra[:, :-1].conj()).angle() - turn * bins
    ahead = ahead - 2 * math.pi * torch.round(ahead / (2 * math.pi))
    loud = spectra.abs()
    lasting = torch.minimum(loud[:, 1:], loud[:, :-1])
    around = F.max_pool1d(lasting, 2 * NEAR + 1, 1, NEAR)
    matter = (lasting / (around + 1e-6)).square() * around.sqrt() / (bins + 4)
    return (ahead / turn).float(), (matter / (matter.mean(-1, keepdim=True) + 1e-4)).float()


def mistuning(said: Tensor, true: Tensor, matter: Tensor) -> Tensor:
    """The mean error of frequencies, all [B, n, TUNED], weighted by what matters."""
    return (F.smooth_l1_loss(said, true.clamp(-REACH, REACH), beta=CLOSE, reduction="none") * matter).mean()
