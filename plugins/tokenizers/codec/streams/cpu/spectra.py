"""The spectra of the `magnitude` network on a CPU, by numba kernels with a fixed order of operations."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from accomp.plugins.tokenizers.codec.networks.magnitude_network import (
    BANDS_FLOOR,
    GRID,
    HOP,
    LONG,
    LOW_BINS,
    SAMPLE_RATE,
    STEP,
    SUBFRAMES,
    WINDOW,
    Spectra,
)
from accomp.plugins.tokenizers.codec.networks.pitch_circles import EARLIER
from accomp.plugins.tokenizers.codec.phase.lane_passes import tables
from accomp.plugins.tokenizers.codec.phase.lanes import COUNT, aligned
from accomp.plugins.tokenizers.codec.streams.cpu import log_spectra
from accomp.plugins.tokenizers.codec.streams.cpu.log_spectra import Array, Circles, Filters, Long, Short, Turns
from accomp.plugins.tokenizers.codec.streams.cpu.pitch_circles import NONE, TABLE


class CpuSpectra:
    """audio -> log magnitudes of bands and of the lowest bins, and pitch circles, like Spectra for the encoder."""

    def __init__(self, spectra: Spectra):
        k, bins = np.arange(WINDOW // 2 + 1), np.arange(LOW_BINS)
        self._short: Short = (
            *(STEP, spectra.window.numpy(), _filters(spectra.bands), BANDS_FLOOR, GRID),
            *(_turns(k / WINDOW), tables(WINDOW // 8)),
        )
        parts = np.outer(bins, np.arange(COUNT)).ravel()
        self._long: Long = (
            *(HOP, aligned(spectra.long_window.numpy()), BANDS_FLOOR, GRID, _turns(COUNT * bins / LONG)),
            *(_turns(parts / LONG), tables(LONG // (8 * COUNT))),
        )
        self._past, (earlier, table) = spectra.past, (EARLIER, TABLE) if spectra.circles else (0, NONE)
        self._circles: Circles = earlier, SAMPLE_RATE / LONG, 2 * math.pi * EARLIER / LONG, table

    def begin(self, batch: int) -> Tensor:
        """Return the initial history of `batch` rows: silence."""
        return torch.zeros(batch, self._past, dtype=torch.float64)

    def __call__(self, audio: Array, past: Array) -> tuple[Array, Array]:
        """audio [B, T * hop] float64 -> [B * T, 4 * bands], [B * T, 320 + 0 or SIZE] float32; updates history."""
        bands, low = log_spectra.log_spectra(audio, past, self._short, self._long, self._circles)
        frames = low.shape[0] * low.shape[1]
        return bands.reshape(frames, SUBFRAMES * bands.shape[2]), low.reshape(frames, low.shape[2])


def _filters(filters: Tensor) -> Filters:
    """Return filters [n, bins] without outer zeros."""
    used = [row.nonzero().flatten() for row in filters]
    first, end = (np.array([int(row[at]) for row in used]) for at in (0, -1))
    weights = [row[i : j + 1].numpy() for row, i, j in zip(filters, first, end, strict=True)]
    return first, np.concatenate([[0], np.cumsum(end + 1 - first)]), np.concatenate(weights)


def _turns(share: Array) -> Turns:
    """Return cos and -sin of fractions of a turn [n]."""
    return aligned(np.cos(2 * np.pi * share)), aligned(-np.sin(2 * np.pi * share))
