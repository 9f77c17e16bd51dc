"""The `spectral` network that hears both sides of a frame: the same layers, padded on both sides, for comparison."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.sliding import Beside, Past, SlidingConv, SlidingUpsample, delay, lookahead
from accomp.plugins.tokenizers.spectral_network import (
    ANALYSIS,
    HOP,
    STEP,
    SUBFRAMES,
    Analysis,
    SpectralNetwork,
    Synthesis,
)


class CentredAnalysis(nn.Module):
    """audio [B, n] -> features [B, T, 1473] of the frames that are ready: the window's middle is the frame's."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = SlidingConv(_Windows(), _SIDE, _SIDE)

    def forward(self, audio: Tensor, past: Past, *, final: bool) -> Tensor:
        return self.windows(audio[:, None], past, final=final).transpose(1, 2)


class CentredBlock(nn.Module):
    """x + s * W2 gelu(W1 norm(depthwise(x))) over frames [B, T, D], which sees as many frames ahead as behind."""

    def __init__(self, width: int, hidden: int, kernel: int):
        super().__init__()
        self.body = Beside(_Body(width, hidden, kernel))

    def forward(self, x: Tensor, past: Past, *, final: bool) -> Tensor:
        return self.body(x.transpose(1, 2), past, final=final).transpose(1, 2)


class CentredSynthesis(nn.Module):
    """What the decoder says of each frame [B, T, size] -> audio [B, n], the samples that are ready."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes = Synthesis()
        self.overlap = SlidingUpsample(_Overlap(), STEP, 0)

    def forward(self, h: Tensor, past: Past, *, final: bool) -> Tensor:
        return self.overlap(self.shapes.grains(h).transpose(1, 2), past, final=final)[:, 0]


class CentredNetwork(SpectralNetwork):
    """SpectralNetwork with as many frames ahead as behind, streamed as sliding.py does; `kernel` must be odd."""

    causal = False
    layers = (CentredAnalysis, CentredBlock, CentredSynthesis)

    def __init__(self, *, encoder_blocks: int, decoder_blocks: int, kernel: int, **sizes: Any):
        super().__init__(encoder_blocks=encoder_blocks, decoder_blocks=decoder_blocks, kernel=kernel, **sizes)
        self.delay = reach(encoder_blocks, decoder_blocks, kernel)[1]

    def encode(self, audio: Tensor, past: Any, *, final: bool = False) -> Tensor:
        """audio [B, T * hop] -> latents [B, t, E] of the frames that are ready; `final` gives all."""
        h = self.enter(self.analysis(audio, past, final=final))
        for block in self.encoder_blocks:
            h = block(h, past, final=final)
        return self.to_latent(self.encoder_norm(h))

    def decode(self, z: Tensor, past: Any, *, final: bool = False) -> Tensor:
        """latents [B, T, E] -> audio [B, n], the samples that are ready; `final` gives all."""
        h = self.from_latent(z)
        for block in self.decoder_blocks:
            h = block(h, past, final=final)
        return self.synthesis(self.leave(self.decoder_norm(h)), past, final=final)


def reach(encoder_blocks: int, decoder_blocks: int, kernel: int) -> tuple[int, int]:
    """Lookahead and delay (samples) of a centred network."""
    block = (kernel // 2, 1)
    heard = [(ANALYSIS - 1 - _SIDE, HOP), *[block] * encoder_blocks]
    return lookahead(heard, HOP), delay([*[block] * decoder_blocks, (0, SUBFRAMES), (STEP, STEP)])


_SIDE = (ANALYSIS - HOP) // 2


class _Windows(nn.Module):
    """Analysis as a convolution [B, 1, n] -> [B, size, m]."""

    kernel_size, stride, dilation, out_channels = (ANALYSIS,), (HOP,), (1,), Analysis.size

    def __init__(self) -> None:
        super().__init__()
        self.analysis = Analysis()

    def forward(self, audio: Tensor) -> Tensor:
        return self.analysis.features(audio[:, 0].unfold(-1, ANALYSIS, HOP)).transpose(1, 2)


class _Taps(nn.Module):
    """A depthwise convolution [B, D, n] -> [B, D, m] as a sum of shifted products, which is fast in float64 as well."""

    stride, dilation = (1,), (1,)

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.kernel_size, self.out_channels = (kernel,), width
        self.weight = nn.Parameter(torch.randn(kernel, width, 1) * (kernel**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[-1] - len(self.weight) + 1
        mixed = x[..., :n] * self.weight[0]
        for i in range(1, len(self.weight)):
            mixed = torch.addcmul(mixed, x[..., i : i + n], self.weight[i])
        return mixed


class _Body(nn.Module):
    def __init__(self, width: int, hidden: int, kernel: int):
        super().__init__()
        self.mix = SlidingConv(_Taps(width, kernel), kernel // 2, kernel // 2)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor, past: Past, *, final: bool) -> Tensor:
        mixed = self.mix(x, past, final=final).transpose(1, 2)
        return (self.scale * self.contract(F.gelu(self.expand(self.norm(mixed))))).transpose(1, 2)


class _Overlap(nn.Module):
    """Windows [B, 640, n] every 320 samples, added up -> [B, 1, (n + 1) * 320], as a transposed convolution."""

    stride, out_channels = (STEP,), 1

    def forward(self, grains: Tensor) -> Tensor:
        rising, falling = grains.split(STEP, dim=1)
        whole = F.pad(rising, (0, 1)) + F.pad(falling, (1, 0))
        return whole.transpose(1, 2).flatten(1)[:, None]
