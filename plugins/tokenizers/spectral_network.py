"""The network of the `spectral` codec: causal STFT, blocks at the frame rate, inverse STFT."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.causal import CausalBlock, History
from accomp.plugins.tokenizers.quantizer import new_quantizer

HOP = 640
ANALYSIS = 4 * HOP
SUBFRAMES = 2
STEP = HOP // SUBFRAMES
SYNTHESIS = 2 * STEP
PHASE_BINS = 96
"""Lowest analysis bins (12.5 Hz apart, up to 1.2 kHz) whose real and imaginary parts the encoder sees."""


class Analysis(nn.Module):
    """audio [B, T * hop] -> features [B, T, 1473]: a Hann STFT whose window of 2560 samples ends with the frame.

    Features are log(1 + |S| / 1e-4) / 4 of all bins and S / sqrt(|S| + 1e-3) of the lowest 96, with S scaled so that a
    sine of amplitude 1 has |S| = 1. Digital silence gives zeros; no feature is steep enough to magnify rounding.
    """

    window: Tensor
    size = ANALYSIS // 2 + 1 + 2 * PHASE_BINS

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(ANALYSIS, dtype=torch.float64) / (ANALYSIS / 4)
        self.register_buffer("window", window, persistent=False)

    def forward(self, audio: Tensor, history: History) -> Tensor:
        return self.features(history.extend(self, audio, ANALYSIS - HOP).unfold(-1, ANALYSIS, HOP))

    def features(self, frames: Tensor) -> Tensor:
        """Windows of sound [B, T, 2560] -> features [B, T, 1473]."""
        spectrum = torch.view_as_real(torch.fft.rfft(frames * self.window.to(frames.dtype)))
        magnitude = torch.linalg.vector_norm(spectrum, dim=-1)  # twice as fast as abs()
        low = spectrum[..., :PHASE_BINS, :] / (magnitude[..., :PHASE_BINS, None] + 1e-3).sqrt()
        return torch.cat([torch.log1p(magnitude * 1e4) / 4, low[..., 0], low[..., 1]], dim=-1)


class Synthesis(nn.Module):
    """what the decoder says of each frame [B, T, size] -> audio [B, T * hop], two windows of 640 samples a frame.

    Of each window that is a log magnitude for every bin, a vector (its angle and length count) for the lowest 25 bins,
    whose phase the encoder has heard, and an angle for the others. Bins lie 50 Hz apart, the frame rate: a tone in the
    middle of a bin has the same two phases in every frame. So phases that nobody can predict may stay what they are,
    and add up to a steady sound. (With one window of 1280 samples every second bin turns its sign from frame to frame;
    phases then meet at random, which costs level and smoothness.) The first output sample lies 320 samples before the
    first frame.
    """

    window: Tensor
    bins = SYNTHESIS // 2 + 1
    low = math.ceil(PHASE_BINS * SYNTHESIS / ANALYSIS) + 1
    size = SUBFRAMES * (2 * bins + low)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(SYNTHESIS, dtype=torch.float64), persistent=False)

    def forward(self, h: Tensor, history: History, *, final: bool) -> Tensor:
        grains = self.grains(h)
        if final:
            grains = F.pad(grains, (0, 0, 0, 1))
        rising, falling = grains[..., :STEP], grains[..., STEP:]
        falling = history.extend(self, falling, 1, dim=1)[:, :-1]
        return (rising + falling).flatten(1)

    def grains(self, h: Tensor) -> Tensor:
        """[B, T, size] -> windowed sound [B, 2 * T, 640]; one every 320 samples is to be added up."""
        if not h.shape[1]:
            return h.new_zeros(len(h), 0, SYNTHESIS)
        h = h.unflatten(2, (SUBFRAMES, -1)).flatten(1, 2)
        log_magnitude, real, imaginary, angle = h.split([self.bins, self.low, self.low, self.bins - self.low], dim=-1)
        level = torch.exp(log_magnitude.clamp(max=3.0)) * (SYNTHESIS / 4)
        parts = [torch.cat([real, angle.cos()], dim=-1), torch.cat([imaginary, angle.sin()], dim=-1)]
        spectrum = torch.view_as_complex(level[..., None] * torch.stack(parts, dim=-1))
        return torch.fft.irfft(spectrum, n=SYNTHESIS) * self.window.to(h.dtype)

    @classmethod
    @torch.no_grad()
    def start(cls, bias: Tensor) -> None:
        """Set a bias [size]: every bin quiet and steady, at a random phase."""
        first = torch.empty(cls.bins).uniform_(-math.pi, math.pi)
        for i, part in enumerate(bias.chunk(SUBFRAMES)):
            angle = first + i * math.pi * torch.arange(cls.bins)
            quiet, low = torch.full_like(first, -7.0), angle[: cls.low]
            part.copy_(torch.cat([quiet, low.cos(), low.sin(), angle[cls.low :]]))


class SpectralNetwork(nn.Module):
    """Encoder, quantizer and decoder of the `spectral` codec; see Spectral.Config for the sizes."""

    hop = HOP
    delay = STEP
    sample_rate = 32_000
    causal = True
    layers: tuple[type[nn.Module], type[nn.Module], type[nn.Module]] = (Analysis, CausalBlock, Synthesis)

    def __init__(
        self,
        *,
        codebooks: int,
        codebook_size: int,
        codebook_dim: int,
        width: int,
        hidden: int,
        encoder_blocks: int,
        decoder_blocks: int,
        kernel: int,
    ):
        super().__init__()
        analysis, block, synthesis = self.layers
        self.analysis = analysis()
        self.enter = nn.Linear(Analysis.size, width)
        self.encoder_blocks = nn.ModuleList(block(width, hidden, kernel) for _ in range(encoder_blocks))
        self.encoder_norm = nn.LayerNorm(width)
        self.to_latent = nn.Linear(width, width)
        self.quantizer = new_quantizer(width, codebooks, codebook_size, codebook_dim)
        self.from_latent = nn.Linear(width, width)
        self.decoder_blocks = nn.ModuleList(block(width, hidden, kernel) for _ in range(decoder_blocks))
        self.decoder_norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, Synthesis.size)
        self.synthesis = synthesis()
        Synthesis.start(self.leave.bias)

    def encoder_parts(self) -> list[nn.Module]:
        """The modules that encoding runs, the quantizer included; they decide which codes come out."""
        return [self.analysis, self.enter, self.encoder_blocks, self.encoder_norm, self.to_latent, self.quantizer]

    def encode(self, audio: Tensor, history: History) -> Tensor:
        """audio [B, T * hop] -> latents [B, T, E]."""
        h = self.enter(self.analysis(audio, history))
        for block in self.encoder_blocks:
            h = block(h, history)
        return self.to_latent(self.encoder_norm(h))

    def decode(self, z: Tensor, history: History, *, final: bool = False) -> Tensor:
        """latents [B, T, E] -> audio [B, T * hop] from `delay` samples before the frame on; `final` adds the rest."""
        h = self.from_latent(z)
        for block in self.decoder_blocks:
            h = block(h, history)
        return self.synthesis(self.leave(self.decoder_norm(h)), history, final=final)
