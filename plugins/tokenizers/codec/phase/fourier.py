"""The Fourier transform of real frames as machine code that other machine code calls, without Python between frames.

Pairs of samples are complex numbers z[k], k < n. Every eighth of them is a part, each in a lane of its own (see
lane_passes.py); with Y_r the transform of part r = 0..7, of m = n / 8 numbers,
    Z[k + m j] = sum over r of exp(-2 pi i r j / 8) exp(-2 pi i r k / n) Y_r[k],
for eight k side by side. The spectrum of the frame is split off that of the pairs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from accomp.plugins.tokenizers.codec.phase import lane_passes
from accomp.plugins.tokenizers.codec.phase.framing import SHORTEST
from accomp.plugins.tokenizers.codec.phase.lane_passes import PAIR, Tables, room, sum_of_four, transformed, turned
from accomp.plugins.tokenizers.codec.phase.lanes import COUNT, load, store, transposed
from accomp.plugins.tokenizers.codec.phase.machine import machine

Array = np.ndarray[Any, Any]
HALF_ROOT = math.sqrt(0.5)


class Transform(NamedTuple):
    """What is the same for all frames of a size."""

    parts: Tables
    turns: tuple[Array, Array]
    """cos and -sin of 2 pi r k / n, at r m + k."""
    pairs: tuple[Array, Array]
    """cos and -sin of 2 pi k / window, k < n."""


def transform(window: int) -> Transform:
    """For frames of `window` samples. Raises ValueError unless window = 16 * 2^a * 3^b * 5^c, from SHORTEST on."""
    if window % PAIR or window < SHORTEST:
        raise ValueError(f"window = {window} samples; expected a multiple of {PAIR}, from {SHORTEST} on")
    n = window // 2
    m = n // COUNT
    angles = 2 * np.pi * np.outer(np.arange(COUNT), np.arange(m)).ravel() / n
    halves = 2 * np.pi * np.arange(n) / window
    return Transform(lane_passes.tables(m), (np.cos(angles), -np.sin(angles)), (np.cos(halves), -np.sin(halves)))


@machine
def workspace(window: int) -> Array:
    """What `forward` and `backward` write on: [2, window]."""
    return room(2 * window).reshape(2, window)


@machine
def _turned(real: Any, imaginary: Any, turns: tuple[Array, Array], at: int) -> tuple[Any, Any]:
    return turned(real, imaginary, load(turns[0], at), load(turns[1], at))


@machine
def _put(real: Array, imaginary: Array, at: int, half: int, ar: Any, ai: Any, br: Any, bi: Any) -> None:
    """Complex lanes a + b go to a place, a - b to one so much later."""
    store(real, at, ar + br)
    store(imaginary, at, ai + bi)
    store(real, at + half, ar - br)
    store(imaginary, at + half, ai - bi)


@machine
def _joined(x: Array, real: Array, imaginary: Array, turns: tuple[Array, Array]) -> None:
    """Transforms of parts x [m * PAIR] -> that of the whole, real and imaginary [n], for eight k at a time.

    The last eight may have been among those before, and are the same once more.
    """
    m = len(x) // PAIR
    for block in range(0, m, COUNT):
        k = min(block, m - COUNT)
        ar, br, cr, dr, er, fr, gr, hr = transposed(x, k * PAIR, PAIR)
        ai, bi, ci, di, ei, fi, gi, hi = transposed(x, k * PAIR + COUNT, PAIR)
        br, bi = _turned(br, bi, turns, m + k)
        cr, ci = _turned(cr, ci, turns, 2 * m + k)
        dr, di = _turned(dr, di, turns, 3 * m + k)
        er, ei = _turned(er, ei, turns, 4 * m + k)
        fr, fi = _turned(fr, fi, turns, 5 * m + k)
        gr, gi = _turned(gr, gi, turns, 6 * m + k)
        hr, hi = _turned(hr, hi, turns, 7 * m + k)
        ar, ai, cr, ci, er, ei, gr, gi = sum_of_four(ar, ai, cr, ci, er, ei, gr, gi)
        br, bi, dr, di, fr, fi, hr, hi = sum_of_four(br, bi, dr, di, fr, fi, hr, hi)
        _put(real, imaginary, k, 4 * m, ar, ai, br, bi)
        _put(real, imaginary, k + m, 4 * m, cr, ci, (dr + di) * HALF_ROOT, (di - dr) * HALF_ROOT)
        _put(real, imaginary, k + 2 * m, 4 * m, er, ei, fi, fr * -1.0)
        _put(real, imaginary, k + 3 * m, 4 * m, gr, gi, (hi - hr) * HALF_ROOT, (hr + hi) * -HALF_ROOT)


@machine
def _complex(work: Array, of: Transform) -> tuple[Array, Array]:
    """The transform of the lanes in work[0] -> real and imaginary parts [n]; both rows are written over.

    With real and imaginary parts exchanged, in and out, it is the inverse times n.
    """
    found, free = transformed(work[0], work[1], of.parts)
    n = len(free) // 2
    _joined(found, free[:n], free[n:], of.turns)
    return free[:n], free[n:]


@machine
def forward(x: Array, real: Array, imaginary: Array, work: Array, of: Transform) -> None:
    """x [window] -> real, imaginary [window / 2 + 1] of its transform; work is a workspace."""
    cos, sin = of.pairs
    n, lanes = len(x) // 2, work[0]
    for k in range(0, n, COUNT):
        for r in range(COUNT):
            lanes[2 * k + r], lanes[2 * k + COUNT + r] = x[2 * (k + r)], x[2 * (k + r) + 1]
    zr, zi = _complex(work, of)
    real[0], imaginary[0] = zr[0] + zi[0], 0.0
    real[n], imaginary[n] = zr[0] - zi[0], 0.0
    for k in range(1, n):
        er, ei = 0.5 * (zr[k] + zr[n - k]), 0.5 * (zi[k] - zi[n - k])
        dr, di = 0.5 * (zi[k] + zi[n - k]), 0.5 * (zr[n - k] - zr[k])
        real[k] = er + dr * cos[k] - di * sin[k]
        imaginary[k] = ei + dr * sin[k] + di * cos[k]


@machine
def backward(real: Array, imaginary: Array, x: Array, work: Array, of: Transform) -> None:
    """The inverse of `forward`; the imaginary parts of the first and last bin count as 0."""
    cos, sin = of.pairs
    n, lanes, zr, zi = len(x) // 2, work[0], work[1, : len(x) // 2], work[1, len(x) // 2 :]
    half = 0.5 / n
    zr[0], zi[0] = half * (real[0] + real[n]), half * (real[0] - real[n])
    for k in range(1, n):
        er, ei = half * (real[k] + real[n - k]), half * (imaginary[k] - imaginary[n - k])
        dr, di = half * (real[k] - real[n - k]), half * (imaginary[k] + imaginary[n - k])
        zr[k], zi[k] = er - (di * cos[k] - dr * sin[k]), ei + (dr * cos[k] + di * sin[k])
    for k in range(0, n, COUNT):
        for r in range(COUNT):
            lanes[2 * k + r], lanes[2 * k + COUNT + r] = zi[k + r], zr[k + r]
    zi, zr = _complex(work, of)
    for k in range(n):
        x[2 * k], x[2 * k + 1] = zr[k], zi[k]
