"""The network of the `spectral` codec: causal STFT, blocks at the frame rate, inverse STFT."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.causal import CausalBlock, History
from accomp.plugins.tokenizers.one_frame import OneFrame, compiled
from accomp.plugins.tokenizers.quantizer import new_quantizer

HOP = 640
ANALYSIS = 4 * HOP
SYNTHESIS = 2 * HOP
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
        frames = history.extend(self, audio, ANALYSIS - HOP).unfold(-1, ANALYSIS, HOP)
        spectrum = torch.fft.rfft(frames * self.window.to(audio.dtype))
        magnitude = torch.linalg.vector_norm(torch.view_as_real(spectrum), dim=-1)  # twice as fast as abs()
        low = spectrum[..., :PHASE_BINS] / (magnitude[..., :PHASE_BINS] + 1e-3).sqrt()
        return torch.cat([torch.log1p(magnitude * 1e4) / 4, low.real, low.imag], dim=-1)


class Synthesis(nn.Module):
    """log magnitude and phase [B, T, 641] each -> audio [B, T * hop], windows of 1280 samples overlap-added.

    The first output sample lies one hop before the first frame: frame i fills [(i - 1) * hop, (i + 1) * hop).
    """

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(SYNTHESIS, dtype=torch.float64), persistent=False)

    def forward(self, log_magnitude: Tensor, phase: Tensor, history: History, *, final: bool) -> Tensor:
        magnitude = torch.exp(log_magnitude.clamp(max=3.0)) * (SYNTHESIS / 4)
        spectrum = torch.polar(magnitude, phase)
        if final:
            spectrum = F.pad(spectrum, (0, 0, 0, 1))
        grains = torch.fft.irfft(spectrum, n=SYNTHESIS) * self.window.to(phase.dtype)
        rising, falling = grains[..., :HOP], grains[..., HOP:]
        falling = history.extend(self, falling, 1, dim=1)[:, :-1]
        return (rising + falling).flatten(1)


class SpectralNetwork(nn.Module):
    """Encoder, quantizer and decoder of the `spectral` codec; see Spectral.Config for the sizes."""

    hop = HOP
    delay = HOP
    sample_rate = 32_000

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
        self.analysis = Analysis()
        self.enter = nn.Linear(Analysis.size, width)
        self.encoder_blocks = nn.ModuleList(CausalBlock(width, hidden, kernel) for _ in range(encoder_blocks))
        self.encoder_norm = nn.LayerNorm(width)
        self.to_latent = nn.Linear(width, width)
        self.quantizer = new_quantizer(width, codebooks, codebook_size, codebook_dim)
        self.from_latent = nn.Linear(width, width)
        self.decoder_blocks = nn.ModuleList(CausalBlock(width, hidden, kernel) for _ in range(decoder_blocks))
        self.decoder_norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, 2 * (SYNTHESIS // 2 + 1))
        self.synthesis = Synthesis()
        with torch.no_grad():
            magnitude, phase = self.leave.bias.chunk(2)
            magnitude.fill_(-7.0)
            phase.uniform_(-math.pi, math.pi)

    def encoder_parts(self) -> list[nn.Module]:
        """The modules that encoding runs, the quantizer included; they decide which codes come out."""
        return [self.analysis, self.enter, self.encoder_blocks, self.encoder_norm, self.to_latent, self.quantizer]

    def speed_up(self) -> None:
        """Compute single frames in machine code from now on, where numba is installed. The weights must not change."""
        blocks = [*self.encoder_blocks, *self.decoder_blocks]
        if any(block.one_frame for block in blocks) or (kernel := compiled()) is None:
            return
        for block in blocks:
            block.one_frame = OneFrame(kernel, block)

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
        log_magnitude, phase = self.leave(self.decoder_norm(h)).chunk(2, dim=-1)
        return self.synthesis(log_magnitude, phase, history, final=final)
