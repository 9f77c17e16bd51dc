"""A vocoder on a CPU: machine code with a fixed order of operations, for few frames and for many."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.networks.magnitude_network import BANDS_FLOOR, BINS
from accomp.plugins.tokenizers.codec.networks.vocoder import REACH, Vocoder
from accomp.plugins.tokenizers.codec.streams.causal import FixedHistory
from accomp.plugins.tokenizers.codec.streams.cpu import vocoder_kernels
from accomp.plugins.tokenizers.codec.streams.cpu.kernels import Array
from accomp.plugins.tokenizers.codec.streams.cpu.layers import Layers, array, sparse


class CpuVocoder:
    """Settled spectra -> audio, as a Vocoder corrects them and `phases` adds them up. Weights must not change."""

    def __init__(self, vocoder: Vocoder, phases: Any):
        self._vocoder, self._relations, self._phases = vocoder, vocoder.relations, phases
        filters = sparse(vocoder.relations.bands)
        self._bands = (*filters, *vocoder.relations.turn.numpy(), BANDS_FLOOR**2)
        self._spread = array(vocoder.spread)
        self._layers = Layers(*vocoder.layers())

    def begin(self, batch: int) -> dict[nn.Module, Tensor]:
        """Return the initial states by module: zeros."""
        return {
            self._vocoder: self._phases.begin_sum(batch),
            self._relations: torch.zeros(batch, 1, 2, BINS, dtype=torch.float64),
            **self._layers.begin(batch),
        }

    def __call__(self, spectra: Tensor, z: Array, history: FixedHistory) -> Tensor:
        """Spectra [B, T * 4, 2, 641] float64, written over, and latents [B * T, E] float32 -> audio [B, T * hop]."""
        settled, past = spectra.numpy(), history.of(self._relations).numpy()
        related = vocoder_kernels.relations(settled, past, *self._bands).reshape(len(z), -1)
        u = self._layers(np.concatenate([related, z / self._spread], axis=1), history)
        vocoder_kernels.correct(settled, u.reshape(len(settled), -1, 2, BINS), REACH)
        audio: Tensor = self._phases.sound(spectra, history.of(self._vocoder))
        return audio
