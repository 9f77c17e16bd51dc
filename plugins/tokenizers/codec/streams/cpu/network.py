"""The `magnitude` network on a CPU: machine code with a fixed order of operations, for few frames and for many."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.networks.magnitude_network import (
    BANDS_FLOOR,
    BINS,
    FLOOR,
    HOP,
    LOW_BINS,
    SAMPLE_RATE,
    WINDOW,
    MagnitudeNetwork,
)
from accomp.plugins.tokenizers.codec.networks.pitch_circles import SIZE
from accomp.plugins.tokenizers.codec.networks.residual_codebooks import ResidualCodebooks
from accomp.plugins.tokenizers.codec.networks.tuner import TUNED, Tuner, bounded
from accomp.plugins.tokenizers.codec.phase.lanes import aligned
from accomp.plugins.tokenizers.codec.streams.causal import FixedHistory
from accomp.plugins.tokenizers.codec.streams.cpu import kernels, pitch_circles
from accomp.plugins.tokenizers.codec.streams.cpu.kernels import Array
from accomp.plugins.tokenizers.codec.streams.cpu.layers import Layers, array
from accomp.plugins.tokenizers.codec.streams.cpu.pitch_circles import SCALES, TABLE
from accomp.plugins.tokenizers.codec.streams.cpu.spectra import CpuSpectra
from accomp.plugins.tokenizers.codec.streams.cpu.vocoder import CpuVocoder

SPACING = SAMPLE_RATE / WINDOW
"""Hz between the bins of magnitudes."""


def _books(quantizer: ResidualCodebooks) -> Array:
    """The codebooks [K, C, E], 0 where a level is about fewer of the latents."""
    return np.stack([array(F.pad(level.codebook, (0, quantizer.latent - level.width))) for level in quantizer.levels])


class CpuEncoder:
    """audio -> latents, and codes, as a MagnitudeNetwork computes them, a LivePath. Weights must not change."""

    def __init__(self, network: MagnitudeNetwork, stay: float):
        self._stay, self._quantizer, self._spectra = stay, network.quantizer, network.spectra
        self._logs = CpuSpectra(network.spectra)
        self._mean = array(network.mean)
        self._layers = Layers(network.enter, network.encoder_blocks, network.encoder_norm, network.to_latent)
        self._analysis = array(network.analysis.T), np.zeros(len(network.analysis), np.float32)
        books = _books(network.quantizer)
        self._books = aligned(np.ascontiguousarray(books.transpose(0, 2, 1)))
        self._widths = np.array([level.width for level in network.quantizer.levels])
        self._halves = np.stack(
            [array(level.codebook.double().square().sum(1) / 2) for level in network.quantizer.levels]
        )
        self(torch.zeros(1, HOP, dtype=torch.float64), self.begin(1))  # so that the machine code is made now

    def takes(self, batch: int, frames: int) -> bool:
        """All there is."""
        return True

    def begin(self, batch: int) -> FixedHistory:
        """An empty past of so many rows."""
        return FixedHistory(
            {
                self._spectra: self._logs.begin(batch),
                self._quantizer: torch.zeros(batch, len(self._books), dtype=torch.int64),
                **self._layers.begin(batch),
            }
        )

    def latents(self, audio: Tensor, history: FixedHistory) -> Array:
        """audio [B, T * hop] float64 -> latents [B * T, E] float32."""
        bands, low = self._logs(audio.contiguous().numpy(), history.of(self._spectra).numpy())
        low, circles = low[:, :LOW_BINS], low[:, LOW_BINS:]
        features = np.concatenate([bands, low], axis=1)
        features *= np.float32(1 / 4)
        features += np.float32(1.5)
        z: Array = kernels.linear(bands - self._mean, *self._analysis)
        z += self._layers(features, history)
        return np.concatenate([z, circles * SCALES], axis=1) if circles.shape[1] else z

    def __call__(self, audio: Tensor, history: FixedHistory) -> Tensor:
        """audio [B, T * hop] float64 -> codes [B, K, T] int64."""
        codes = torch.empty(len(audio), len(self._books), audio.shape[1] // HOP, dtype=torch.int64)
        last = history.of(self._quantizer).numpy()
        z = self.latents(audio, history)
        kernels.look_up(z, self._books, self._widths, self._halves, self._stay, last, codes.numpy())
        return codes


class CpuWhitener:
    """audio -> whitened latents [B, n, T], likewise."""

    def __init__(self, encoder: CpuEncoder, network: MagnitudeNetwork, n: int):
        self._encoder, white = encoder, network.whitening
        self._mean = array(white.mean)
        self._axes = array(white.axes[:, :n] / white.deviation[:n]), np.zeros(n, np.float32)
        self(torch.zeros(1, HOP, dtype=torch.float64), self.begin(1))

    def takes(self, batch: int, frames: int) -> bool:
        """All there is."""
        return True

    def begin(self, batch: int) -> FixedHistory:
        """An empty past of so many rows."""
        return self._encoder.begin(batch)

    def __call__(self, audio: Tensor, history: FixedHistory) -> Tensor:
        """audio [B, T * hop] float64 -> [B, n, T] float32, rounded to float16."""
        white = kernels.linear(self._encoder.latents(audio, history) - self._mean, *self._axes)
        latents = torch.from_numpy(white).half().float()
        return latents.view(len(audio), -1, white.shape[1]).transpose(1, 2).contiguous()


class CpuUnwhitener:
    """Whitened latents [B, n, T] -> audio, likewise."""

    def __init__(self, decoder: CpuDecoder, network: MagnitudeNetwork, n: int):
        self._decoder, white = decoder, network.whitening
        self._axes = array((white.axes[:, :n] * white.deviation[:n]).T), array(white.mean)
        self(torch.zeros(1, n, 1), self.begin(1))

    def takes(self, batch: int, frames: int) -> bool:
        """All there is."""
        return True

    def begin(self, batch: int) -> FixedHistory:
        """An empty past of so many rows."""
        return self._decoder.begin(batch)

    def __call__(self, latents: Tensor, history: FixedHistory) -> Tensor:
        """[B, n, T] -> audio [B, T * hop] from `delay` samples before the first frame on."""
        rows = latents.transpose(1, 2).float().contiguous().flatten(0, 1).numpy()
        return self._decoder.sound(kernels.linear(rows, *self._axes), len(latents), history)


class CpuTuner:
    """A Tuner, likewise."""

    def __init__(self, tuner: Tuner):
        self._layers = Layers(tuner.enter, tuner.blocks, tuner.norm, tuner.leave)

    def begin(self, batch: int) -> dict[nn.Module, Tensor]:
        """Return the initial state of the blocks: zeros."""
        return self._layers.begin(batch)

    def __call__(self, features: Array, batch: int, history: FixedHistory) -> Tensor:
        """[B * T, inputs] float32 -> bins [B, T * 4, 96]."""
        return bounded(torch.from_numpy(self._layers(features, history)).view(batch, -1, TUNED))


class CpuDecoder:
    """Latents, or codes, -> audio, likewise; `phases` makes sound of the magnitudes, `vocoder` better sound."""

    def __init__(
        self, network: MagnitudeNetwork, phases: Any, vocoder: CpuVocoder | None = None, *, circles: bool = False
    ):
        """`circles`: whether those of the latents move frequencies."""
        self._embeddings = _books(network.quantizer)
        self._spread, self._mean = np.float32(network.spread), array(network.mean)
        self._synthesis = array(network.synthesis.T)
        self._widen = array(network.widen)
        self._layers = Layers(network.from_latent, network.decoder_blocks, network.decoder_norm, network.leave)
        self._tuner = CpuTuner(network.tuner) if network.tuner else None
        self._heeds, self._places = network.spectra.circles, circles
        self._phases, self._vocoder = phases, vocoder
        self(torch.zeros(1, len(self._embeddings), 1, dtype=torch.int64), self.begin(1))

    def takes(self, batch: int, frames: int) -> bool:
        """All there is."""
        return True

    def begin(self, batch: int) -> FixedHistory:
        """An empty past of so many rows."""
        past = {self._phases: self._phases.begin(batch), **self._layers.begin(batch)}
        tuner = self._tuner.begin(batch) if self._tuner else {}
        return FixedHistory(past | tuner | (self._vocoder.begin(batch) if self._vocoder else {}))

    def __call__(self, codes: Tensor, history: FixedHistory) -> Tensor:
        """codes [B, K, T] int64 -> audio [B, T * hop] from `delay` samples before the first frame on."""
        z = kernels.embed(codes.cpu().contiguous().numpy(), self._embeddings)
        return self.sound(z, len(codes), history)

    def sound(self, z: Array, batch: int, history: FixedHistory) -> Tensor:
        """Latents [B * T, E] float32 -> audio [B, T * hop]."""
        features = self._layers.trunk(z / self._spread, history)
        correction = self._layers.branch(features).reshape(-1, BINS)
        bands = kernels.linear(z[:, : len(self._synthesis)], self._synthesis, self._mean)
        bands = bands.reshape(len(correction), -1)
        magnitudes = kernels.widened(bands, self._widen, correction, BANDS_FLOOR, FLOOR)
        said = torch.from_numpy(magnitudes).view(batch, -1, BINS)
        tuning = self._tuner(self._tuner_input(z, features), batch, history) if self._tuner else None
        if self._places:
            tuning = self._placed(z[:, -SIZE:], said, tuning)
        if self._vocoder:
            settled = self._phases.spectra(said, history.of(self._phases), tuning)
            return self._vocoder(settled, z, history)
        audio: Tensor = self._phases(said, history.of(self._phases), tuning)
        return audio

    def _tuner_input(self, z: Array, features: Array) -> Array:
        """As MagnitudeNetwork.tuner_input does."""
        return np.concatenate([features, z[:, -SIZE:] / SCALES], axis=1) if self._heeds else features

    @staticmethod
    def _placed(latents: Array, magnitudes: Tensor, tuning: Tensor | None) -> Tensor:
        """As MagnitudeNetwork.placed does; latents [B * T, SIZE] are those of circles, magnitudes [B, T * 4, 641]."""
        slopes = kernels.by_slopes(magnitudes.flatten(0, 1).numpy(), TUNED)
        moved = torch.zeros(*magnitudes.shape[:2], TUNED) if tuning is None else tuning
        pitch_circles.placed(moved.flatten(0, 1).numpy(), np.ascontiguousarray(latents), slopes, SPACING, TABLE)
        return moved
