"""Fourier transforms of complex numbers side by side, each in a lane of its own (see lanes.py).

Stockham's self-sorting algorithm of radices 2 to 5 (C. Van Loan, Computational Frameworks for the FFT, 1992, chapter
1). Element k of all lanes lies in a flat array at k * PAIR: eight real parts, then eight imaginary ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accomp.plugins.tokenizers.codec.phase.lanes import COUNT, load, store
from accomp.plugins.tokenizers.codec.phase.machine import machine

Array = np.ndarray[Any, Any]
Tables = tuple[Array, Array, Array]
"""Radices of a transform; cos and -sin of 2 pi k / its size."""
Angle = tuple[float, float]
PAIR = 2 * COUNT
"""Complex lanes: real parts, then imaginary ones."""
C1, C2 = math.cos(2 * math.pi / 5), math.cos(4 * math.pi / 5)
S1, S2, S3 = math.sin(2 * math.pi / 5), math.sin(4 * math.pi / 5), math.sin(2 * math.pi / 3)


def tables(size: int) -> Tables:
    """For transforms of `size` complex numbers. Raises ValueError for a size with factors other than 2, 3 and 5."""
    left, radices = size, []
    for radix in (4, 2, 3, 5):
        while left > 0 and left % radix == 0:
            radices.append(radix)
            left //= radix
    if left != 1:
        raise ValueError(f"a transform of {size} numbers; expected a size with factors 2, 3 and 5 only")
    angle = 2 * np.pi * np.arange(size) / size
    return np.array(radices), np.cos(angle), -np.sin(angle)


@machine
def room(count: int) -> Array:
    """Space for so many float64 that begins where a line of the cache does: no vector of 8 lies in two."""
    space = np.empty(count + COUNT)
    first = -(space.ctypes.data // 8) % COUNT
    return space[first : first + count]


@machine
def turned(real: Any, imaginary: Any, c: Any, d: Any) -> tuple[Any, Any]:
    """Complex lanes times c + i d, which are lanes, too, or numbers."""
    return real * c - imaginary * d, real * d + imaginary * c


@machine
def _turn(to: Array, at: int, real: Any, imaginary: Any, c: float, d: float) -> None:
    """Complex lanes times c + i d go to a place."""
    real, imaginary = turned(real, imaginary, c, d)
    store(to, at, real)
    store(to, at + COUNT, imaginary)


@machine
def sum_of_four(
    ar: Any, ai: Any, br: Any, bi: Any, cr: Any, ci: Any, dr: Any, di: Any
) -> tuple[Any, Any, Any, Any, Any, Any, Any, Any]:
    """The transform of four complex lanes a to d."""
    tr, ti, ur, ui = ar + cr, ai + ci, ar - cr, ai - ci
    vr, vi, zr, zi = br + dr, bi + di, bi - di, dr - br
    return tr + vr, ti + vi, ur + zr, ui + zi, tr - vr, ti - vi, ur - zr, ui - zi


@machine
def four(
    ar: Any, ai: Any, br: Any, bi: Any, cr: Any, ci: Any, dr: Any, di: Any, w: Angle, y: Array, at: int, jump: int
) -> None:
    """The transform of four complex lanes a to d, turned by 0 to 3 times an angle, to four places."""
    c1, d1 = w
    c2, d2 = c1 * c1 - d1 * d1, 2 * c1 * d1
    c3, d3 = c1 * c2 - d1 * d2, c1 * d2 + d1 * c2
    ar, ai, br, bi, cr, ci, dr, di = sum_of_four(ar, ai, br, bi, cr, ci, dr, di)
    store(y, at, ar)
    store(y, at + COUNT, ai)
    _turn(y, at + jump, br, bi, c1, d1)
    _turn(y, at + 2 * jump, cr, ci, c2, d2)
    _turn(y, at + 3 * jump, dr, di, c3, d3)


@machine
def _pass4(x: Array, y: Array, s: int, cos: Array, sin: Array) -> None:
    m = len(x) // (4 * s * PAIR)
    step, jump = m * s * PAIR, s * PAIR
    for p in range(m):
        w = cos[p * s], sin[p * s]
        for q in range(s):
            a = (p * s + q) * PAIR
            b, c, d = a + step, a + 2 * step, a + 3 * step
            four(
                load(x, a), load(x, a + COUNT), load(x, b), load(x, b + COUNT),
                load(x, c), load(x, c + COUNT), load(x, d), load(x, d + COUNT),
                w, y, (4 * p * s + q) * PAIR, jump,
            )  # fmt: skip


@machine
def _pass2(x: Array, y: Array, s: int, cos: Array, sin: Array) -> None:
    m = len(x) // (2 * s * PAIR)
    for p in range(m):
        c, d = cos[p * s], sin[p * s]
        for q in range(s):
            a, to = (p * s + q) * PAIR, (2 * p * s + q) * PAIR
            b = a + m * s * PAIR
            ar, ai, br, bi = load(x, a), load(x, a + COUNT), load(x, b), load(x, b + COUNT)
            store(y, to, ar + br)
            store(y, to + COUNT, ai + bi)
            _turn(y, to + s * PAIR, ar - br, ai - bi, c, d)


@machine
def _pass3(x: Array, y: Array, s: int, cos: Array, sin: Array) -> None:
    m = len(x) // (3 * s * PAIR)
    step, jump = m * s * PAIR, s * PAIR
    for p in range(m):
        c1, d1 = cos[p * s], sin[p * s]
        c2, d2 = c1 * c1 - d1 * d1, 2 * c1 * d1
        for q in range(s):
            a, to = (p * s + q) * PAIR, (3 * p * s + q) * PAIR
            b, c = a + step, a + 2 * step
            ar, ai, br, bi = load(x, a), load(x, a + COUNT), load(x, b), load(x, b + COUNT)
            cr, ci = load(x, c), load(x, c + COUNT)
            tr, ti, vr, vi = br + cr, bi + ci, (bi - ci) * S3, (cr - br) * S3
            ur, ui = ar - tr * 0.5, ai - ti * 0.5
            store(y, to, ar + tr)
            store(y, to + COUNT, ai + ti)
            _turn(y, to + jump, ur + vr, ui + vi, c1, d1)
            _turn(y, to + 2 * jump, ur - vr, ui - vi, c2, d2)


@machine
def _pass5(x: Array, y: Array, s: int, cos: Array, sin: Array) -> None:
    m = len(x) // (5 * s * PAIR)
    step, jump = m * s * PAIR, s * PAIR
    for p in range(m):
        c1, d1 = cos[p * s], sin[p * s]
        c2, d2 = c1 * c1 - d1 * d1, 2 * c1 * d1
        c3, d3 = c1 * c2 - d1 * d2, c1 * d2 + d1 * c2
        c4, d4 = c2 * c2 - d2 * d2, 2 * c2 * d2
        for q in range(s):
            a, to = (p * s + q) * PAIR, (5 * p * s + q) * PAIR
            b, c, d, e = a + step, a + 2 * step, a + 3 * step, a + 4 * step
            ar, ai, br, bi = load(x, a), load(x, a + COUNT), load(x, b), load(x, b + COUNT)
            er, ei, cr, ci = load(x, e), load(x, e + COUNT), load(x, c), load(x, c + COUNT)
            dr, di = load(x, d), load(x, d + COUNT)
            tr, ti, vr, vi = br + er, bi + ei, bi - ei, er - br
            ur, ui, zr, zi = cr + dr, ci + di, ci - di, dr - cr
            store(y, to, ar + tr + ur)
            store(y, to + COUNT, ai + ti + ui)
            er, ei = ar + tr * C1 + ur * C2, ai + ti * C1 + ui * C2
            fr, fi = ar + tr * C2 + ur * C1, ai + ti * C2 + ui * C1
            gr, gi, hr, hi = vr * S1 + zr * S2, vi * S1 + zi * S2, vr * S2 - zr * S1, vi * S2 - zi * S1
            _turn(y, to + jump, er + gr, ei + gi, c1, d1)
            _turn(y, to + 2 * jump, fr + hr, fi + hi, c2, d2)
            _turn(y, to + 3 * jump, fr - hr, fi - hi, c3, d3)
            _turn(y, to + 4 * jump, er - gr, ei - gi, c4, d4)


@machine
def transformed(x: Array, y: Array, of: Tables) -> tuple[Array, Array]:
    """The transform of each lane of x [size * PAIR]: x and y, both written over, the one that holds it first."""
    radices, cos, sin = of
    s = 1
    for radix in radices:
        if radix == 4:
            _pass4(x, y, s, cos, sin)
        elif radix == 2:
            _pass2(x, y, s, cos, sin)
        elif radix == 3:
            _pass3(x, y, s, cos, sin)
        else:
            _pass5(x, y, s, cos, sin)
        s *= radix
        x, y = y, x
    return x, y
