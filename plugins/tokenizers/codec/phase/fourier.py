"""The Fourier transform of real frames as machine code that other machine code calls, without Python between frames.

Stockham's self-sorting algorithm of radices 2 to 5 (C. Van Loan, Computational Frameworks for the FFT, 1992, chapter 1)
over pairs of samples as complex numbers. Real and imaginary parts are arrays of their own, which lets loops over them
become vector instructions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accomp.plugins.tokenizers.codec.phase.machine import machine

Array = np.ndarray[Any, Any]
Tables = tuple[Array, Array, Array]
"""Radices; cos and -sin of 2 pi k / window, k up to window / 2."""

C1, C2 = math.cos(2 * math.pi / 5), math.cos(4 * math.pi / 5)
S1, S2, S3 = math.sin(2 * math.pi / 5), math.sin(4 * math.pi / 5), math.sin(2 * math.pi / 3)


def tables(window: int) -> Tables:
    """For frames of `window` samples. Raises ValueError unless window = 4 * 2^a * 3^b * 5^c."""
    left, radices = window // 2, []
    for radix in (4, 2, 3, 5):
        while left > 0 and left % radix == 0:
            radices.append(radix)
            left //= radix
    if left != 1 or window % 4:
        raise ValueError(f"window = {window} samples; expected a multiple of 4 with factors 2, 3 and 5 only")
    angle = 2 * np.pi * np.arange(window // 2 + 1) / window
    return np.array(radices), np.cos(angle), -np.sin(angle)


@machine
def _pass2(xr: Array, xi: Array, yr: Array, yi: Array, s: int, cos: Array, sin: Array) -> None:
    m = len(xr) // (2 * s)
    ar, ai, br, bi = xr.reshape(2, m, s), xi.reshape(2, m, s), yr.reshape(m, 2, s), yi.reshape(m, 2, s)
    for p in range(m):
        c, d = cos[2 * p * s], sin[2 * p * s]
        for q in range(s):
            ur, ui = ar[0, p, q] - ar[1, p, q], ai[0, p, q] - ai[1, p, q]
            br[p, 0, q], bi[p, 0, q] = ar[0, p, q] + ar[1, p, q], ai[0, p, q] + ai[1, p, q]
            br[p, 1, q], bi[p, 1, q] = ur * c - ui * d, ur * d + ui * c


@machine
def _pass3(xr: Array, xi: Array, yr: Array, yi: Array, s: int, cos: Array, sin: Array) -> None:
    m = len(xr) // (3 * s)
    ar, ai, br, bi = xr.reshape(3, m, s), xi.reshape(3, m, s), yr.reshape(m, 3, s), yi.reshape(m, 3, s)
    for p in range(m):
        c1, d1 = cos[2 * p * s], sin[2 * p * s]
        c2, d2 = c1 * c1 - d1 * d1, 2 * c1 * d1
        for q in range(s):
            tr, ti = ar[1, p, q] + ar[2, p, q], ai[1, p, q] + ai[2, p, q]
            vr, vi = S3 * (ai[1, p, q] - ai[2, p, q]), S3 * (ar[2, p, q] - ar[1, p, q])
            ur, ui = ar[0, p, q] - 0.5 * tr, ai[0, p, q] - 0.5 * ti
            br[p, 0, q], bi[p, 0, q] = ar[0, p, q] + tr, ai[0, p, q] + ti
            er, ei, fr, fi = ur + vr, ui + vi, ur - vr, ui - vi
            br[p, 1, q], bi[p, 1, q] = er * c1 - ei * d1, er * d1 + ei * c1
            br[p, 2, q], bi[p, 2, q] = fr * c2 - fi * d2, fr * d2 + fi * c2


@machine
def _pass4(xr: Array, xi: Array, yr: Array, yi: Array, s: int, cos: Array, sin: Array) -> None:
    m = len(xr) // (4 * s)
    ar, ai, br, bi = xr.reshape(4, m, s), xi.reshape(4, m, s), yr.reshape(m, 4, s), yi.reshape(m, 4, s)
    for p in range(m):
        c1, d1 = cos[2 * p * s], sin[2 * p * s]
        c2, d2 = c1 * c1 - d1 * d1, 2 * c1 * d1
        c3, d3 = c1 * c2 - d1 * d2, c1 * d2 + d1 * c2
        for q in range(s):
            tr, ti = ar[0, p, q] + ar[2, p, q], ai[0, p, q] + ai[2, p, q]
            ur, ui = ar[0, p, q] - ar[2, p, q], ai[0, p, q] - ai[2, p, q]
            vr, vi = ar[1, p, q] + ar[3, p, q], ai[1, p, q] + ai[3, p, q]
            zr, zi = ai[1, p, q] - ai[3, p, q], ar[3, p, q] - ar[1, p, q]
            br[p, 0, q], bi[p, 0, q] = tr + vr, ti + vi
            er, ei, fr, fi, gr, gi = ur + zr, ui + zi, tr - vr, ti - vi, ur - zr, ui - zi
            br[p, 1, q], bi[p, 1, q] = er * c1 - ei * d1, er * d1 + ei * c1
            br[p, 2, q], bi[p, 2, q] = fr * c2 - fi * d2, fr * d2 + fi * c2
            br[p, 3, q], bi[p, 3, q] = gr * c3 - gi * d3, gr * d3 + gi * c3


@machine
def _pass5(xr: Array, xi: Array, yr: Array, yi: Array, s: int, cos: Array, sin: Array) -> None:
    m = len(xr) // (5 * s)
    ar, ai, br, bi = xr.reshape(5, m, s), xi.reshape(5, m, s), yr.reshape(m, 5, s), yi.reshape(m, 5, s)
    for p in range(m):
        c1, d1 = cos[2 * p * s], sin[2 * p * s]
        c2, d2 = c1 * c1 - d1 * d1, 2 * c1 * d1
        c3, d3 = c1 * c2 - d1 * d2, c1 * d2 + d1 * c2
        c4, d4 = c2 * c2 - d2 * d2, 2 * c2 * d2
        for q in range(s):
            tr, ti = ar[1, p, q] + ar[4, p, q], ai[1, p, q] + ai[4, p, q]
            ur, ui = ar[2, p, q] + ar[3, p, q], ai[2, p, q] + ai[3, p, q]
            vr, vi = ai[1, p, q] - ai[4, p, q], ar[4, p, q] - ar[1, p, q]
            zr, zi = ai[2, p, q] - ai[3, p, q], ar[3, p, q] - ar[2, p, q]
            er, ei = ar[0, p, q] + C1 * tr + C2 * ur, ai[0, p, q] + C1 * ti + C2 * ui
            fr, fi = ar[0, p, q] + C2 * tr + C1 * ur, ai[0, p, q] + C2 * ti + C1 * ui
            gr, gi, hr, hi = S1 * vr + S2 * zr, S1 * vi + S2 * zi, S2 * vr - S1 * zr, S2 * vi - S1 * zi
            br[p, 0, q], bi[p, 0, q] = ar[0, p, q] + tr + ur, ai[0, p, q] + ti + ui
            kr, ki, lr, li = er + gr, ei + gi, fr + hr, fi + hi
            br[p, 1, q], bi[p, 1, q] = kr * c1 - ki * d1, kr * d1 + ki * c1
            br[p, 2, q], bi[p, 2, q] = lr * c2 - li * d2, lr * d2 + li * c2
            kr, ki, lr, li = fr - hr, fi - hi, er - gr, ei - gi
            br[p, 3, q], bi[p, 3, q] = kr * c3 - ki * d3, kr * d3 + ki * c3
            br[p, 4, q], bi[p, 4, q] = lr * c4 - li * d4, lr * d4 + li * c4


@machine
def _complex(xr: Array, xi: Array, yr: Array, yi: Array, of: Tables) -> tuple[Array, Array]:
    """The transform of x = xr + i xi [n]; all four are written over, and the answer lies in two of them.

    With real and imaginary parts exchanged, in and out, it is the inverse times n.
    """
    radices, cos, sin = of
    s = 1
    for radix in radices:
        if radix == 4:
            _pass4(xr, xi, yr, yi, s, cos, sin)
        elif radix == 2:
            _pass2(xr, xi, yr, yi, s, cos, sin)
        elif radix == 3:
            _pass3(xr, xi, yr, yi, s, cos, sin)
        else:
            _pass5(xr, xi, yr, yi, s, cos, sin)
        s *= radix
        xr, xi, yr, yi = yr, yi, xr, xi
    return xr, xi


@machine
def forward(x: Array, real: Array, imaginary: Array, work: Array, of: Tables) -> None:
    """x [window] -> real, imaginary [window / 2 + 1] of its transform; work [4, window / 2] is written over."""
    _, cos, sin = of
    n = len(x) // 2
    for k in range(n):
        work[0, k], work[1, k] = x[2 * k], x[2 * k + 1]
    zr, zi = _complex(work[0], work[1], work[2], work[3], of)
    real[0], imaginary[0] = zr[0] + zi[0], 0.0
    real[n], imaginary[n] = zr[0] - zi[0], 0.0
    for k in range(1, n):
        er, ei = 0.5 * (zr[k] + zr[n - k]), 0.5 * (zi[k] - zi[n - k])
        dr, di = 0.5 * (zi[k] + zi[n - k]), 0.5 * (zr[n - k] - zr[k])
        real[k] = er + dr * cos[k] - di * sin[k]
        imaginary[k] = ei + dr * sin[k] + di * cos[k]


@machine
def backward(real: Array, imaginary: Array, x: Array, work: Array, of: Tables) -> None:
    """The inverse of `forward`; the imaginary parts of the first and last bin count as 0."""
    _, cos, sin = of
    n = len(x) // 2
    work[0, 0], work[1, 0] = 0.5 * (real[0] + real[n]), 0.5 * (real[0] - real[n])
    for k in range(1, n):
        er, ei = 0.5 * (real[k] + real[n - k]), 0.5 * (imaginary[k] - imaginary[n - k])
        dr, di = 0.5 * (real[k] - real[n - k]), 0.5 * (imaginary[k] + imaginary[n - k])
        odd_r, odd_i = dr * cos[k] + di * sin[k], di * cos[k] - dr * sin[k]
        work[0, k], work[1, k] = er - odd_i, ei + odd_r
    zi, zr = _complex(work[1], work[0], work[3], work[2], of)
    for k in range(n):
        x[2 * k], x[2 * k + 1] = zr[k] / n, zi[k] / n
