"""The `magnitude` network on a CPU: machine code with a fixed order of operations, for few frames and for many."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accomp.plugins.tokenizers import kernels
from accomp.plugins.tokenizers.causal import FixedHistory
from accomp.plugins.tokenizers.kernels import Array
from accomp.plugins.tokenizers.magnitude_network import (
    BANDS_FLOOR,
    BINS,
    FLOOR,
    GRID,
    HOP,
    LONG,
    LOW_BINS,
    STEP,
    MagnitudeNetwork,
)
from accomp.plugins.tokenizers.phase import fourier


class CpuEncoder:
    """audio -> latents, and codes, as a MagnitudeNetwork computes them; see codec.Live. Weights must not change."""

    def __init__(self, network: MagnitudeNetwork, stay: float):
        spectra, self._stay = network.spectra, stay
        self._spectra, self._quantizer = spectra, network.quantizer
        self._short = (STEP, spectra.window.numpy(), *_sparse(spectra.bands), fourier.tables(len(spectra.window)))
        low = torch.eye(LOW_BINS, dtype=torch.float64)
        self._long = (HOP, spectra.long_window.numpy(), *_sparse(low), fourier.tables(LONG))
        self._mean = _array(network.mean)
        self._layers = _Layers(network.enter, network.encoder_blocks, network.encoder_norm, network.to_latent)
        self._analysis = _array(network.analysis.T), np.zeros(len(network.analysis), np.float32)
        books = [level.codebook for level in network.quantizer.levels]
        self._books = np.stack([_array(book.T) for book in books])
        self._halves = np.stack([_array(book.double().square().sum(1) / 2) for book in books])
        self(torch.zeros(1, HOP, dtype=torch.float64), self.begin(1))  # so that the machine code is made now

    def takes(self, batch: int, frames: int) -> bool:
        """All there is."""
        return True

    def begin(self, batch: int) -> FixedHistory:
        """An empty past of so many rows."""
        return FixedHistory(
            {
                self._spectra: torch.zeros(batch, LONG - HOP, dtype=torch.float64),
                self._quantizer: torch.zeros(batch, len(self._books), dtype=torch.int64),
                **self._layers.begin(batch),
            }
        )

    def latents(self, audio: Tensor, history: FixedHistory) -> Array:
        """audio [B, T * hop] float64 -> latents [B * T, E] float32."""
        sound, past = audio.contiguous().numpy(), history.of(self._spectra).numpy()
        bands, low = (
            kernels.log_bands(sound, past, hop, window, first, weights, BANDS_FLOOR, GRID, tables)
            for hop, window, first, weights, tables in (self._short, self._long)
        )
        kernels.remember(sound, past)
        bands = bands.reshape(len(low), -1)
        features = np.concatenate([bands, low], axis=1)
        features *= np.float32(1 / 4)
        features += np.float32(1.5)
        z: Array = kernels.linear(bands - self._mean, *self._analysis)
        z += self._layers(features, history)
        return z

    def __call__(self, audio: Tensor, history: FixedHistory) -> Tensor:
        """audio [B, T * hop] float64 -> codes [B, K, T] int64."""
        codes = torch.empty(len(audio), len(self._books), audio.shape[1] // HOP, dtype=torch.int64)
        last = history.of(self._quantizer).numpy()
        kernels.look_up(self.latents(audio, history), self._books, self._halves, self._stay, last, codes.numpy())
        return codes


class CpuWhitener:
    """audio -> whitened latents [B, n, T], likewise."""

    def __init__(self, encoder: CpuEncoder, network: MagnitudeNetwork, n: int):
        self._encoder, white = encoder, network.whitening
        self._mean = _array(white.mean)
        self._axes = _array(white.axes[:, :n] / white.deviation[:n]), np.zeros(n, np.float32)
        self(torch.zeros(1, HOP, dtype=torch.float64), self.begin(1))

    def takes(self, batch: int, frames: int) -> bool:
        """All there is."""
        return True

    def begin(self, batch: int) -> FixedHistory:
        """An empty past of so many rows."""
        return self._encoder.begin(batch)

    def __call__(self, audio: Tensor, history: FixedHistory) -> Tensor:
        """audio [B, T * hop] float64 -> [B, n, T] float32."""
        white = kernels.linear(self._encoder.latents(audio, history) - self._mean, *self._axes)
        return torch.from_numpy(white).view(len(audio), -1, white.shape[1]).transpose(1, 2).contiguous()


class CpuUnwhitener:
    """Whitened latents [B, n, T] -> audio, likewise."""

    def __init__(self, decoder: CpuDecoder, network: MagnitudeNetwork, n: int):
        self._decoder, white = decoder, network.whitening
        self._axes = _array((white.axes[:, :n] * white.deviation[:n]).T), _array(white.mean)
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


class CpuDecoder:
    """Latents, or codes, -> audio, likewise; `phases` makes sound of the magnitudes."""

    def __init__(self, network: MagnitudeNetwork, phases: Any):
        self._embeddings = np.stack([_array(level.codebook) for level in network.quantizer.levels])
        self._spread, self._mean = np.float32(network.spread), _array(network.mean)
        self._synthesis = _array(network.synthesis.T)
        self._widen = _array(network.widen)
        self._layers = _Layers(network.from_latent, network.decoder_blocks, network.decoder_norm, network.leave)
        self._phases = phases
        self(torch.zeros(1, len(self._embeddings), 1, dtype=torch.int64), self.begin(1))

    def takes(self, batch: int, frames: int) -> bool:
        """All there is."""
        return True

    def begin(self, batch: int) -> FixedHistory:
        """An empty past of so many rows."""
        return FixedHistory({self._phases: self._phases.begin(batch), **self._layers.begin(batch)})

    def __call__(self, codes: Tensor, history: FixedHistory) -> Tensor:
        """codes [B, K, T] int64 -> audio [B, T * hop] from `delay` samples before the first frame on."""
        z = kernels.embed(codes.cpu().contiguous().numpy(), self._embeddings)
        return self.sound(z, len(codes), history)

    def sound(self, z: Array, batch: int, history: FixedHistory) -> Tensor:
        """Latents [B * T, E] float32 -> audio [B, T * hop]."""
        correction = self._layers(z / self._spread, history).reshape(-1, BINS)
        bands = kernels.linear(z, self._synthesis, self._mean).reshape(len(correction), -1)
        magnitudes = kernels.widened(bands, self._widen, correction, BANDS_FLOOR, FLOOR)
        said = torch.from_numpy(magnitudes).view(batch, -1, BINS)
        audio: Tensor = self._phases(said, history.of(self._phases))
        return audio


class _Layers:
    """A first layer, blocks, a norm and a last layer."""

    def __init__(self, first: nn.Module, blocks: Any, norm: Any, last: nn.Module):
        self._first, self._last = _layer(first), _layer(last)
        self._blocks = [(block, _block(block)) for block in blocks]
        self._norm = _norm(norm)

    def begin(self, batch: int) -> dict[nn.Module, Tensor]:
        return {block: torch.zeros(batch, block.kernel - 1, len(block.scale)) for block, _ in self._blocks}

    def __call__(self, x: Array, history: FixedHistory) -> Array:
        h = kernels.linear(x, *self._first)
        for block, weights in self._blocks:
            h = kernels.block(h, history.of(block).numpy(), *weights)
        out: Array = kernels.linear(kernels.norm(h, *self._norm), *self._last)
        return out


def _sparse(filters: Tensor) -> tuple[Array, Array]:
    """Filters [n, bins] -> the first bin of each that is not 0 [n], and what follows from there [n, widest]."""
    used = (filters != 0).int()
    first = used.argmax(1)
    last = filters.shape[1] - 1 - used.flip(1).argmax(1)
    widest = int((last - first).max()) + 1
    padded = torch.cat([filters, filters.new_zeros(len(filters), widest)], dim=1)
    return first.numpy(), torch.stack([row[i : i + widest] for row, i in zip(padded, first, strict=True)]).numpy()


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().float().contiguous().numpy()
    return array


def _layer(layer: Any) -> tuple[Array, Array]:
    return _array(layer.weight.T), _array(layer.bias)


def _norm(norm: Any) -> tuple[Array, Array, float]:
    return _array(norm.weight), _array(norm.bias), norm.eps


def _block(block: Any) -> tuple[Any, ...]:
    gain, bias, eps = _norm(block.norm)
    return eps, _array(block.taps), gain, bias, *_layer(block.expand), *_layer(block.contract), _array(block.scale)
