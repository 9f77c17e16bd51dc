"""Angles of complex numbers, and the other way round, without branches, so that loops over them become vector code.

Power series over an eighth, or a quarter, of a turn; errors are a few units in the last place.
"""

from __future__ import annotations

import math

import numpy as np

from accomp.plugins.tokenizers.codec.phase.machine import machine

TURN = 2 * math.pi
QUARTER = math.pi / 2
QUARTER_REST = 6.123233995736766e-17
"""pi / 2 less its float64."""
EIGHTH, SIXTEENTH = math.pi / 4, math.pi / 8
LOW, MIDDLE, HIGH = math.tan(math.pi / 16), math.tan(math.pi / 8), math.tan(3 * math.pi / 16)
LEAST = 1e-300
"""Added to what is divided by: 0 has the angle 0."""

ARC = tuple(1 / n for n in range(21, 1, -2))
SINE, COSINE = (tuple(1 / math.factorial(n) for n in range(last, 1, -2)) for last in (15, 16))
"""Coefficients of the series from their second term on, the last one first."""


@machine
def _series(q: float, terms: tuple[float, ...]) -> float:
    """terms[-1] - q terms[-2] + q^2 terms[-3] - ..."""
    found = terms[0]
    for i in range(1, len(terms)):
        found = terms[i] - q * found
    return found


@machine
def angle(y: float, x: float) -> float:
    """The angle of x + i y in (-pi, pi], as math.atan2 has it but for the sign of zeros.

    The smaller of both over the larger is an angle up to pi / 4, which is 0, pi / 8 or pi / 4 and t with |t| at most
    tan(pi / 16), whose arc tangent is t - t^3 / 3 + ... .
    """
    less, more = min(abs(x), abs(y)), max(abs(x), abs(y))
    slope, base = (MIDDLE, SIXTEENTH) if less <= HIGH * more else (1.0, EIGHTH)
    slope, base = (0.0, 0.0) if less <= LOW * more else (slope, base)
    t = (less - more * slope) / (more + less * slope + LEAST)
    q = t * t
    found = base + (t - t * (q * _series(q, ARC)))
    found = QUARTER - found if abs(y) > abs(x) else found
    found = math.pi - found if x < 0 else found
    return -found if y < 0 else found


@machine
def cosine_and_sine(phase: float) -> tuple[float, float]:
    """cos and sin of an angle (radians, a few turns at most), by series within pi / 4 of a multiple of pi / 2.

    sin r = r - r^3 / 3! + ... - r^15 / 15!, cos r = 1 - r^2 / 2! + ... + r^16 / 16!.
    """
    quarters = np.rint(phase * (1 / QUARTER))
    r = (phase - quarters * QUARTER) - quarters * QUARTER_REST
    q = r * r
    sine = r - r * (q * _series(q, SINE))
    cosine = 1.0 - q * _series(q, COSINE)
    odd = quarters - 2.0 * np.floor(0.5 * quarters) > 0.5
    half = np.floor(0.5 * quarters)
    sign = 1.0 - 2.0 * (half - 2.0 * np.floor(0.5 * half))
    return (sign * -sine, sign * cosine) if odd else (sign * cosine, sign * sine)
