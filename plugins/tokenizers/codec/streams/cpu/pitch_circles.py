"""networks/pitch_circles.py on a CPU: the same sums in a fixed order, a frame at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accomp.plugins.tokenizers.codec.networks.pitch_circles import (
    APART,
    ASTRAY,
    CIRCLES,
    CONCERT,
    FAR_DB,
    HEARD,
    LOWEST,
    NEAR_DB,
    SILENT_DB,
    SOFT_DB,
    TINY,
)
from accomp.plugins.tokenizers.codec.phase.machine import machine

Array = np.ndarray[Any, Any]
TABLE: Array = np.array([(c.low, c.high, 12 / c.semitones, c.scale, c.hazy, c.clear) for c in CIRCLES])
"""Of each circle, lowest and highest frequency (Hz), turns an octave, scale, and how clear it must be."""
SCALES: Array = np.repeat(TABLE[:, 3], 2).astype(np.float32)
"""Of each latent of the circles."""
NONE: Array = TABLE[:0]
"""Of a network without circles."""
TURN = 2 * math.pi


@machine
def _astray(real: float, imaginary: float, real0: float, imaginary0: float, middle: float, turn: float) -> float:
    """How far (bins) from its middle the frequency lies that the phase advanced from the one spectrum to the other."""
    more = math.atan2(imaginary * real0 - real * imaginary0, real * real0 + imaginary * imaginary0) - middle
    return (more - TURN * np.rint(more / TURN)) / turn


@machine
def _share(energy: float, none: float, all_: float) -> float:
    return min(max((10 * math.log10(energy) - none) / (all_ - none), 0.0), 1.0)


@machine
def circles_of(
    now: tuple[Array, Array], earlier: tuple[Array, Array], spacing: float, turn: float, table: Array, out: Array
) -> None:
    """Real and imaginary parts of two spectra -> circles, not scaled. turn: radians a bin's step makes between both."""
    energy, hertz, steady = np.empty(HEARD), np.empty(HEARD), np.empty(HEARD)
    whole = TINY
    for k in range(HEARD):
        a, b, c, d = now[0][k], now[1][k], earlier[0][k], earlier[1][k]
        energy[k] = min(a * a + b * b, c * c + d * d)
        whole += energy[k]
        steady[k] = _astray(a, b, c, d, turn * k, turn)
        hertz[k] = max((k + steady[k]) * spacing, LOWEST)
    for k in range(HEARD):
        below = abs(hertz[k] - hertz[k - 1]) if k else APART
        above = abs(hertz[k + 1] - hertz[k]) if k + 1 < HEARD else APART
        close = max(1 - min(below, above) / APART, 0.0)
        steady[k] = energy[k] * close if abs(steady[k]) < ASTRAY else 0.0
    for i in range(len(table)):
        low, high, turns = table[i, 0], table[i, 1], table[i, 2]
        partials, band, real, imaginary = 0.0, 0.0, 0.0, 0.0
        for k in range(HEARD):
            if low <= k * spacing < high:
                band += energy[k]
            if steady[k] > 0 and low <= hertz[k] < high:
                angle = TURN * turns * math.log2(hertz[k] / CONCERT)
                partials += steady[k]
                real += steady[k] * math.cos(angle)
                imaginary += steady[k] * math.sin(angle)
        band = max(band, partials) + TINY
        real, imaginary = real / band, imaginary / band
        size = math.sqrt(real * real + imaginary * imaginary)
        size *= _share(band / whole, FAR_DB, NEAR_DB) * _share(band, SILENT_DB, SOFT_DB)
        out[2 * i], out[2 * i + 1] = real * size, imaginary * size


@machine
def placed(tuning: Array, latents: Array, slopes: Array, spacing: float, table: Array) -> None:
    """Moves `tuning` [n, m], in place, to where circles say; `latents` are those of circles [n / 4, 2 * circles].

    slopes [n, m]: the bins' frequencies by slopes, off their middles; spacing: Hz between bins.
    """
    for n in range(len(tuning)):
        said = latents[n // (len(tuning) // len(latents))]
        for k in range(tuning.shape[1]):
            own = slopes[n, k] + k
            hertz = (own + tuning[n, k]) * spacing
            for i in range(len(table)):
                if not table[i, 0] <= hertz < table[i, 1]:
                    continue
                real, imaginary = said[2 * i] / table[i, 3], said[2 * i + 1] / table[i, 3]
                size, hazy, clear = math.sqrt(real * real + imaginary * imaginary), table[i, 4], table[i, 5]
                sure = min(max((size - hazy) / (clear - hazy), 0.0), 1.0)
                if sure > 0:
                    angle = TURN * table[i, 2] * math.log2(max(hertz, LOWEST) / CONCERT)
                    off = (math.atan2(imaginary, real) - angle) / TURN
                    hertz *= 2.0 ** (sure * (off - np.rint(off)) / table[i, 2])
            tuning[n, k] = hertz / spacing - own
