"""The steps of a vocoder beside its layers, as machine code whose order of operations is fixed; see kernels.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accomp.plugins.tokenizers.codec.phase.machine import machine

Array = np.ndarray[Any, Any]


@machine
def relations(spectra: Array, past: Array, first: Array, weights: Array, cos: Array, sin: Array, floor: float) -> Array:
    """vocoder.Relations: spectra [B, n, 2, bins] float64 -> [B * n, 5 * bands] float32; the last becomes the past.

    past [B, 1, 2, bins]; band j takes weights[j, i] of bin first[j] + i; `floor` is added to powers.
    """
    batch, frames, _, bins = spectra.shape
    bands, widest = weights.shape
    out = np.empty((batch * frames, 5 * bands), np.float32)
    plane = np.zeros((7, bins + widest))
    sums = np.empty(7)
    for b in range(batch):
        for t in range(frames):
            now = spectra[b, t]
            before = past[b, 0] if t == 0 else spectra[b, t - 1]
            _relate(now, before, cos, sin, plane)
            to = out[b * frames + t]
            for j in range(bands):
                for k in range(7):
                    sums[k] = 0.0
                    for i in range(widest):
                        sums[k] += weights[j, i] * plane[k, first[j] + i]
                to[j] = math.log(sums[0] + floor) / 8 + 1.5
                to[bands + j], to[2 * bands + j] = sums[1] / (sums[5] + floor), sums[2] / (sums[5] + floor)
                to[3 * bands + j], to[4 * bands + j] = sums[3] / (sums[6] + floor), sums[4] / (sums[6] + floor)
        if frames:
            past[b, 0] = spectra[b, frames - 1]
    return out


@machine
def _relate(now: Array, before: Array, cos: Array, sin: Array, plane: Array) -> None:
    """Frames [2, bins] -> plane [7, from bins on]: power, two products, and the powers that these are measured by."""
    bins = now.shape[1]
    for m in range(bins):
        a, b, c, d = now[0, m], now[1, m], before[0, m], before[1, m]
        e, f = (now[0, m + 1], now[1, m + 1]) if m + 1 < bins else (0.0, 0.0)
        on, off, power = a * c + b * d, b * c - a * d, a * a + b * b
        plane[0, m] = power
        plane[1, m], plane[2, m] = on * cos[m] + off * sin[m], off * cos[m] - on * sin[m]
        plane[3, m], plane[4, m] = e * a + f * b, f * a - e * b
        plane[5, m], plane[6, m] = (power + (c * c + d * d)) / 2, (power + (e * e + f * f)) / 2


@machine
def correct(spectra: Array, u: Array, reach: float) -> None:
    """vocoder.corrected, in place: spectra [B, n, 2, bins] float64, u [B, n, 2, bins] float32."""
    for b in range(spectra.shape[0]):
        for t in range(spectra.shape[1]):
            for m in range(spectra.shape[3]):
                p, q = np.float64(u[b, t, 0, m]), np.float64(u[b, t, 1, m])
                size = reach / math.sqrt(1 + p * p + q * q)
                real, imaginary = size * p, size * q
                x, y = spectra[b, t, 0, m], spectra[b, t, 1, m]
                spectra[b, t, 0, m] = x + (x * real - y * imaginary)
                spectra[b, t, 1, m] = y + (x * imaginary + y * real)
