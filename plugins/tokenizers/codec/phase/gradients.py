"""How the phases of a magnitude spectrogram of Hann windows change from frame to frame, and from bin to bin.

As in phase gradient heap integration (Z. Prusa, P. Balazs, P. Sondergaard, A noniterative method for reconstruction of
phase from STFT magnitude, IEEE/ACM TASLP 25(5), 2017) both gradients come from magnitudes. There a Gaussian stands for
the window; here the Hann window's own formulas do, which are exact for a lone partial and a lone impulse, and bounded:
no phase says that energy lies outside the window. Nothing waits for a later frame.

The transform of a Hann window, d bins off a partial, is sin(pi d) / (pi d (1 - d^2)) of its maximum. So for a partial d
bins above bin m, |d| < 1, R = |S(m + 1)| / |S(m - 1)| = (1 + d)(2 + d) / ((1 - d)(2 - d)); with q = (R - 1) / (R + 1)
    d = 4 q / (3 + sqrt(9 - 8 q^2)).
An impulse t samples after the middle of a window of M has |S_n| ~ cos^2(pi t / M), and a hop a before
|S_{n-1}| ~ cos^2(pi (t + a) / M). So with h = pi a / M
    tan(pi t / M) = (cos h - sqrt(|S_{n-1}| / |S_n|)) / sin h.
Its phase falls by 2 pi t / M from a bin to the next.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accomp.plugins.tokenizers.codec.phase.angles import angle
from accomp.plugins.tokenizers.codec.phase.machine import machine

Array = np.ndarray[Any, Any]


@machine
def over_time(now: Array, step: float, out: Array) -> None:
    """Magnitudes [bins] over 0 -> radians a hop by which phases turn faster than the bins' middles, step * d [bins].

    step: radians that the middle of bin 1 turns in a hop. The two end bins turn as their middles.
    """
    bins = len(now)
    out[0] = out[bins - 1] = 0.0
    for m in range(1, bins - 1):
        q = (now[m + 1] - now[m - 1]) / (now[m + 1] + now[m - 1])
        out[m] = step * 4 * q / (3 + math.sqrt(9 - 8 * q * q))


@machine
def over_frequency(now: Array, last: Array, half: float, out: Array) -> None:
    """Magnitudes of this frame and the last, over 0 -> radians from a bin to the next; all [bins].

    half: h. An impulse of equal magnitudes would lie between the two windows' middles; but they are steady sound, which
    lies in the middle of each window. So up to a hop from there the answer goes over from the one to the other.
    """
    cos, sin = math.cos(half), math.sin(half)
    for m in range(len(now)):
        between = angle(cos - math.sqrt(last[m] / now[m]), sin) + 0.5 * half
        out[m] = min(abs(between), half) - 2 * between
