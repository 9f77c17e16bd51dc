"""Few frames of live streams through the `spectral` codec on a CPU: machine code, but for the Fourier transforms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from accomp.plugins.tokenizers import machine_code
from accomp.plugins.tokenizers.causal import CausalBlock, FixedHistory
from accomp.plugins.tokenizers.machine_code import Array
from accomp.plugins.tokenizers.quantizer import FrozenQuantizer
from accomp.plugins.tokenizers.spectral_network import (
    HOP,
    PHASE_BINS,
    STEP,
    SUBFRAMES,
    SYNTHESIS,
    Synthesis,
)

ROWS = 16
"""Rows times frames up to which it is faster than torch, whose matrix products gain more by many rows."""


class SpectralEncoder:
    """audio -> codes as a SpectralNetwork and its quantizer compute them; see codec.Live. Weights must not change."""

    def __init__(self, network: Any, codebooks: FrozenQuantizer):
        self._analysis, self._window = network.analysis, network.analysis.window.numpy()
        self._enter, self._to_latent = _layer(network.enter), _layer(network.to_latent)
        self._blocks = [(block, _block(block)) for block in network.encoder_blocks]
        self._norm = _norm(network.encoder_norm)
        self._project = (codebooks.projection.numpy(), codebooks.offset.numpy())
        self._directions, self._removed = codebooks.directions.numpy(), codebooks.removed.numpy()
        self(torch.zeros(1, HOP, dtype=torch.float64), self.begin(1))  # so that the machine code is made now

    def takes(self, batch: int, frames: int) -> bool:
        """Whether it is for so many frames of so many rows."""
        return batch * frames <= ROWS

    def begin(self, batch: int) -> FixedHistory:
        """An empty past of so many rows."""
        silence = torch.zeros(batch, len(self._window) - HOP, dtype=torch.float64)
        return FixedHistory({self._analysis: silence, **_pasts(self._blocks, batch)})

    def __call__(self, audio: Tensor, history: FixedHistory) -> Tensor:
        """audio [B, T * hop] float64 -> codes [B, K, T] int64."""
        past = history.of(self._analysis).numpy()
        sound = machine_code.windows(audio.contiguous().numpy(), past, self._window, HOP)
        spectrum = torch.fft.rfft(torch.from_numpy(sound)).numpy()
        h = machine_code.linear(machine_code.features(spectrum, PHASE_BINS), *self._enter)
        h = machine_code.norm(_through(self._blocks, h, history), *self._norm)
        projected = machine_code.linear(machine_code.linear(h, *self._to_latent), *self._project)
        codes = torch.empty(len(audio), len(self._directions), audio.shape[1] // HOP, dtype=torch.int64)
        machine_code.look_up(projected, self._directions, self._removed, codes.numpy())
        return codes


class SpectralDecoder:
    """codes -> audio, likewise."""

    def __init__(self, network: Any, codebooks: FrozenQuantizer):
        self._embeddings, self._size = codebooks.embeddings.numpy(), codebooks.directions.shape[2]
        self._from_latent, self._leave = _layer(network.from_latent), _layer(network.leave)
        self._blocks = [(block, _block(block)) for block in network.decoder_blocks]
        self._norm = _norm(network.decoder_norm)
        self._synthesis, self._window = network.synthesis, network.synthesis.window.float().numpy()
        self(torch.zeros(1, len(codebooks.directions), 1, dtype=torch.int64), self.begin(1))

    def takes(self, batch: int, frames: int) -> bool:
        """Whether it is for so many frames of so many rows."""
        return batch * frames <= ROWS

    def begin(self, batch: int) -> FixedHistory:
        """An empty past of so many rows."""
        return FixedHistory({self._synthesis: torch.zeros(batch, 1, STEP), **_pasts(self._blocks, batch)})

    def __call__(self, codes: Tensor, history: FixedHistory) -> Tensor:
        """codes [B, K, T] int64 -> audio [B, T * hop] from `delay` samples before the first frame on."""
        z = machine_code.embed(codes.contiguous().numpy(), self._embeddings, self._size)
        h = _through(self._blocks, machine_code.linear(z, *self._from_latent), history)
        said = machine_code.linear(machine_code.norm(h, *self._norm), *self._leave)
        said = said.reshape(len(said) * SUBFRAMES, -1)
        spectra = machine_code.spectra(said, Synthesis.bins, Synthesis.low, SYNTHESIS / 4)
        grains = torch.fft.irfft(torch.from_numpy(spectra), n=SYNTHESIS).view(len(codes), -1, SYNTHESIS)
        past = history.of(self._synthesis).numpy()
        return torch.from_numpy(machine_code.overlap(grains.numpy(), self._window, past))


Blocks = list[tuple[CausalBlock, tuple[Any, ...]]]


def _pasts(blocks: Blocks, batch: int) -> dict[nn.Module, Tensor]:
    return {block: block.taps.new_zeros(batch, block.kernel - 1, len(block.scale)) for block, _ in blocks}


def _through(blocks: Blocks, h: Array, history: FixedHistory) -> Array:
    for block, weights in blocks:
        h = machine_code.block(h, history.of(block).numpy(), *weights)
    return h


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().float().contiguous().numpy()
    return array


def _layer(layer: nn.Linear) -> tuple[Array, Array]:
    return _array(layer.weight), _array(layer.bias)


def _norm(norm: nn.LayerNorm) -> tuple[Array, Array, float]:
    return _array(norm.weight), _array(norm.bias), norm.eps


def _block(block: CausalBlock) -> tuple[Any, ...]:
    expand, contract = _layer(block.expand), _layer(block.contract)
    gain, bias, eps = _norm(block.norm)
    return eps, _array(block.taps), gain, bias, *expand, *contract, _array(block.scale)
