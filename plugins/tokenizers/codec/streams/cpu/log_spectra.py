"""Logarithms of the magnitudes of short and long windows, as the `magnitude` codec's encoder takes them, on a CPU.

Eight transforms run side by side, a lane each (see lanes.py), so that a window's bits do not depend on its company:
eight windows, or eight parts of one long window. The algorithm is that of phase/lane_passes.py, but for the first step:
of radix 4 and in order of frequencies' remainders (decimation in frequency), it leaves four quarters small enough for
the nearest cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accomp.plugins.tokenizers.codec.phase.lane_passes import PAIR, Tables, four, room, transformed
from accomp.plugins.tokenizers.codec.phase.lanes import COUNT, load, nearest, parts, root, store
from accomp.plugins.tokenizers.codec.phase.machine import machine
from accomp.plugins.tokenizers.codec.streams.cpu.pitch_circles import circles_of
from accomp.plugins.tokenizers.codec.streams.cpu.reductions import totals

Array = np.ndarray[Any, Any]
Filters = tuple[Array, Array, Array]
"""Of each filter the first bin; where its weights begin, and at last end; all weights that are not 0."""
Turns = tuple[Array, Array]
"""cos and -sin of angles."""
Short = tuple[int, Array, Filters, float, float, Turns, Tables]
"""Of windows side by side: hop (even, size / 4 is a multiple of it), window [size], filters of bins, what is added to a
band before its logarithm, the grid of logarithms; turns by 2 pi k / size, k = 0 .. size / 2; tables for size / 8."""
Long = tuple[int, Array, float, float, Turns, Turns, Tables]
"""Of a long window in eight parts: hop, window [size], what is added to a bin, the grid; turns by 16 pi k / size, by
2 pi r k / size at 8 k + r, k below the number of bins, which eight divides; tables for size / 64."""
Circles = tuple[int, float, float, Array]
"""Of pitch circles: how many samples the second window begins earlier, Hz between bins, radians that a bin's step makes
in that time, and a table; without any, 0 samples and an empty one."""


@machine
def _quarters(work: Array, spare: Array, of: Tables) -> Array:
    """The transforms of the quarters of work [4, n * 16], each by itself; they lie there or in spare, just as large."""
    for i in range(4):
        transformed(work[i], spare[i], of)
    return work if len(of[0]) % 2 == 0 else spare


@machine
def log(x: Any) -> Any:
    """The natural logarithm of lanes of positive normal numbers, to some 1e-15 of 1 or of itself.

    x = m 2^k; log m = 2 artanh(s) with s = (m - 1) / (m + 1), |s| < 0.172, by its power series.
    """
    m, k = parts(x)
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    p = q * (1 / 17) + 1 / 15
    p = p * q + 1 / 13
    p = p * q + 1 / 11
    p = p * q + 1 / 9
    p = p * q + 1 / 7
    p = p * q + 1 / 5
    p = p * q + 1 / 3
    return k * 0.6931471805599453 + (s * 2.0 + s * 2.0 * (q * p))


@machine
def _gather(sound: Array, start: int, block: Array, hop: int, width: int) -> None:
    """block[j, i] = sound[start + i hop + j], 0 after the end: then windows a hop apart lie side by side."""
    for i in range(width):
        first = start + i * hop
        for j in range(hop):
            block[j * width + i] = sound[first + j] if first + j < len(sound) else 0.0


@machine
def _split(x: Array, k: int, n: int, c: float, d: float) -> tuple[Any, Any, Any, Any]:
    """Bin k of the even samples' transform, and of the odd ones' turned by c + i d.

    x: the transform of pairs of samples as complex numbers: bin k is number k // 4 of quarter k % 4.
    """
    e = k if k < n else k - n
    f = n - e if e > 0 else 0
    at, to = ((e & 3) * (n >> 2) + (e >> 2)) * PAIR, ((f & 3) * (n >> 2) + (f >> 2)) * PAIR
    ar, ai, br, bi = load(x, at), load(x, at + COUNT), load(x, to), load(x, to + COUNT)
    er, ei, dr, di = (ar + br) * 0.5, (ai - bi) * 0.5, (ai + bi) * 0.5, (br - ar) * 0.5
    return er, ei, dr * c - di * d, dr * d + di * c


@machine
def _magnitudes(x: Array, cos: Array, sin: Array, to: Array) -> None:
    """Of all bins, in order, and two at a time: k and n - k have the same parts."""
    n = len(x) // PAIR
    for k in range(n // 2 + 1):
        er, ei, tr, ti = _split(x, k, n, cos[k], sin[k])
        ur, ui, vr, vi = er + tr, ei + ti, er - tr, ei - ti
        store(to, k * COUNT, root(ur * ur + ui * ui))
        store(to, (n - k) * COUNT, root(vr * vr + vi * vi))


@machine
def _log_bands(sound: Array, lead: int, how: Short, out: Array) -> None:
    """Logarithms of floor + sum_i weights[i] |S[first + i]| of windows at lead, lead + hop, ... -> out [T, bands]."""
    hop, window, (first, begin, weights), floor, grid, (cos, sin), of = how
    n, width = len(window) // 2, len(window) // hop + COUNT - 1
    block, work, spare = room(hop * width), room(n * PAIR).reshape(4, -1), room(n * PAIR).reshape(4, -1)
    magnitude, line = room((n + 1) * COUNT), room(COUNT)
    for t in range(0, len(out), COUNT):
        _gather(sound, lead + t * hop, block, hop, width)
        _first_of_windows(block, hop, width, window, cos, sin, work.ravel())
        _magnitudes(_quarters(work, spare, of).ravel(), cos, sin, magnitude)
        for j in range(len(first)):
            value = load(magnitude, first[j] * COUNT) * weights[begin[j]] + floor
            for i in range(1, begin[j + 1] - begin[j]):
                value = value + load(magnitude, (first[j] + i) * COUNT) * weights[begin[j] + i]
            store(line, 0, nearest(log(value) * (1 / grid)) * grid)
            for lane in range(min(COUNT, len(out) - t)):
                out[t + lane, j] = line[lane]


@machine
def _first_of_windows(block: Array, hop: int, width: int, window: Array, cos: Array, sin: Array, to: Array) -> None:
    """The windowed samples of `_gather` in pairs as complex numbers, and the transform's first step over quarters."""
    quarter = len(window) // 8
    for i in range(2 * quarter // hop):
        for j in range(0, hop, 2):
            p = (i * hop + j) // 2
            a = j * width + i
            step, n = 2 * quarter // hop, 2 * p
            b, c, d = a + step, a + 2 * step, a + 3 * step
            four(
                load(block, a) * window[n], load(block, a + width) * window[n + 1],
                load(block, b) * window[n + 2 * quarter], load(block, b + width) * window[n + 2 * quarter + 1],
                load(block, c) * window[n + 4 * quarter], load(block, c + width) * window[n + 4 * quarter + 1],
                load(block, d) * window[n + 6 * quarter], load(block, d + width) * window[n + 6 * quarter + 1],
                (cos[2 * p], sin[2 * p]), to, p * PAIR, quarter * PAIR,
            )  # fmt: skip


@machine
def _log_lowest(sound: Array, how: Long, circles: Circles, out: Array) -> None:
    """Logarithms of floor + |S[k]| of windows at `earlier`, a hop after it, ... -> out [T, bins ...], the lowest ones.

    Behind them, where there are circles, go those of the window and of the one that begins `earlier` samples before.
    """
    hop, floor, grid, bins = how[0], how[2], how[3], len(how[4][0])
    earlier, spacing, turn, table = circles
    now, before = (room(bins), room(bins)), (room(bins), room(bins))
    size = len(how[1]) // (2 * COUNT) * PAIR
    work, spare, line = room(size).reshape(4, -1), room(size).reshape(4, -1), room(COUNT)
    for t in range(len(out)):
        _lowest(sound[earlier + t * hop :], how, work, spare, now[0], now[1])
        for first in range(0, bins, COUNT):
            re, im = load(now[0], first), load(now[1], first)
            store(line, 0, nearest(log(root(re * re + im * im) + floor) * (1 / grid)) * grid)
            for i in range(COUNT):
                out[t, first + i] = line[i]
        if len(table):
            _lowest(sound[t * hop :], how, work, spare, before[0], before[1])
            found = np.empty(2 * len(table))
            circles_of(now, before, spacing, turn, table, found)
            for i in range(len(found)):
                out[t, bins + i] = np.rint(found[i] * (1 / grid)) * grid


@machine
def _lowest(x: Array, how: Long, work: Array, spare: Array, real: Array, imaginary: Array) -> None:
    """The lowest bins of one window that begins at x[0], with room for the transforms of its quarters, twice.

    S[k] is the sum over eight parts r, every eighth sample, of exp(-2 pi i r k / size) F_r[k], F_r their transforms.
    """
    _, window, _, _, (cos, sin), (c, d), of = how
    n = len(window) // (2 * COUNT)
    parts_real, parts_imaginary = room(COUNT * COUNT), room(COUNT * COUNT)
    _first_of_parts(x, window, cos, sin, work.ravel())
    found = _quarters(work, spare, of).ravel()
    for first in range(0, len(cos), COUNT):
        for i in range(COUNT):
            k = first + i
            er, ei, tr, ti = _split(found, k, n, cos[k], sin[k])
            pr, pi, ck, dk = er + tr, ei + ti, load(c, k * COUNT), load(d, k * COUNT)
            store(parts_real, i * COUNT, pr * ck - pi * dk)
            store(parts_imaginary, i * COUNT, pr * dk + pi * ck)
        store(real, first, totals(parts_real))
        store(imaginary, first, totals(parts_imaginary))


@machine
def _first_of_parts(x: Array, window: Array, cos: Array, sin: Array, to: Array) -> None:
    """The same of eight parts of one window: samples 16 p to 16 p + 7 are real parts, the next eight imaginary ones."""
    quarter = len(window) // (4 * PAIR)
    for p in range(quarter):
        a = p * PAIR
        b, c, d = a + quarter * PAIR, a + 2 * quarter * PAIR, a + 3 * quarter * PAIR
        four(
            load(x, a) * load(window, a), load(x, a + COUNT) * load(window, a + COUNT),
            load(x, b) * load(window, b), load(x, b + COUNT) * load(window, b + COUNT),
            load(x, c) * load(window, c), load(x, c + COUNT) * load(window, c + COUNT),
            load(x, d) * load(window, d), load(x, d + COUNT) * load(window, d + COUNT),
            (cos[2 * p], sin[2 * p]), to, p * PAIR, quarter * PAIR,
        )  # fmt: skip


@machine
def log_spectra(audio: Array, past: Array, short: Short, long: Long, circles: Circles) -> tuple[Array, Array]:
    """Logarithms of magnitudes of windows of the past [B, P] and audio [B, N], float64, which moves into the past.

    Long windows end a hop after the past, two hops, ... and have P + hop samples, or P + hop - earlier where there are
    circles; short ones end a hop of their own after it, ... Returns those of the long windows [B, N / hop, bins],
    followed by their circles, and those of the short ones' bands [B, N / hop, bands], float32, rounded to multiples of
    the grid.
    """
    batch, kept = past.shape
    samples = audio.shape[1]
    bands = np.empty((batch, samples // short[0], len(short[2][0])), np.float32)
    low = np.empty((batch, samples // long[0], len(long[4][0]) + 2 * len(circles[3])), np.float32)
    sound = room(kept + samples)
    for b in range(batch):
        sound[:kept] = past[b]
        sound[kept:] = audio[b]
        past[b] = sound[samples:]
        _log_bands(sound, kept + short[0] - len(short[1]), short, bands[b])
        _log_lowest(sound, long, circles, low[b])
    return bands, low
