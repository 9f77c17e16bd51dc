"""Numba kernels of the `magnitude` network over frames with a fixed order of operations.

Library matrix products of one row and of 500 rows differ in the last digits, which can change a code near a decision
boundary, or a phase that depends on a comparison. Here every output is the same sequence of float32 operations for any
number and composition of rows, so that streams are bit-identical to an offline call. Loops run along contiguous
outputs, so they are vectorised without reordering sums.

Rows of x are frames: row b * T + t is frame t of row b of a batch. Importing this needs numba. Functions are
compiled on first call and cached on disk.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accomp.plugins.tokenizers.codec.phase.framing import SILENT
from accomp.plugins.tokenizers.codec.phase.gradients import over_time
from accomp.plugins.tokenizers.codec.phase.lanes import wide_registers
from accomp.plugins.tokenizers.codec.phase.machine import machine
from accomp.plugins.tokenizers.codec.streams.cpu.reductions import peak
from accomp.plugins.tokenizers.codec.streams.cpu.tiles import product_tile

Array = np.ndarray[Any, Any]
BLOCK = 96
"""Rows of a matrix product that fit in the cache."""
TALL, NARROW = 6, 16
WIDE, FLAT = (64, 192) if wide_registers() else (NARROW, 64)
"""Tiles of a matrix product: TALL rows of WIDE columns, whose sums fill the registers, or one row of FLAT columns, wide
enough that weights are read in long pieces; what is narrower than these, of NARROW columns."""
_tall_wide, _tall = product_tile(TALL, WIDE), product_tile(TALL, NARROW)
_flat, _single = product_tile(1, FLAT), product_tile(1, NARROW)


@machine
def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x [R, n], weight [n, m], bias [m] -> x weight + bias [R, m], all float32.

    Every output is ((bias + x0 w0) + x1 w1) + ... in this order. The weight may be given as the bits of float16, in
    uint16, if m is at least NARROW: reading it takes most of the time of one row. The result has the same bits.
    """
    out = np.empty((len(x), weight.shape[1]), np.float32)
    for row in range(0, len(x), BLOCK):
        _product(x[row : row + BLOCK], weight, bias, out[row : row + BLOCK])
    return out


@machine
def _product(x: Array, weight: Array, bias: Array, out: Array) -> None:
    """`linear` of few rows. Tiles at the edge overlap others, which get the same bits once more."""
    rows, inputs = x.shape
    outputs = weight.shape[1]
    flat, matrix, to = x.ravel(), weight.ravel(), out.ravel()
    if outputs < NARROW:
        for row in range(rows):
            out[row] = bias
            for i in range(inputs):
                for j in range(outputs):
                    out[row, j] += x[row, i] * weight[i, j]
        return
    tall = rows >= TALL
    widest = WIDE if tall else FLAT
    column = 0
    while column < outputs:
        wide = outputs - column >= widest
        column = min(column, outputs - (widest if wide else NARROW))
        row = 0
        while row < rows:
            row = min(row, rows - (TALL if tall else 1))
            if tall and wide:
                _tall_wide(flat, row, inputs, matrix, column, outputs, bias, to)
            elif tall:
                _tall(flat, row, inputs, matrix, column, outputs, bias, to)
            elif wide:
                _flat(flat, row, inputs, matrix, column, outputs, bias, to)
            else:
                _single(flat, row, inputs, matrix, column, outputs, bias, to)
            row += TALL if tall else 1
        column += widest if wide else NARROW


@machine
def norm(x: Array, gain: Array, bias: Array, eps: float) -> Array:
    """x [R, D], normalised over D in place: nn.LayerNorm. Sums are sequential, in float64."""
    width = x.shape[1]
    for row in range(len(x)):
        total = 0.0
        for d in range(width):
            total += x[row, d]
        mean = np.float32(total / width)
        square = 0.0
        for d in range(width):
            x[row, d] -= mean
            square += np.float64(x[row, d]) * x[row, d]
        steep = np.float32(1 / math.sqrt(square / width + eps))
        for d in range(width):
            x[row, d] = x[row, d] * steep * gain[d] + bias[d]
    return x


@machine
def block(
    x: Array, past: Array, eps: float, taps: Array, gain: Array, bias: Array,
    w1: Array, b1: Array, w2: Array, b2: Array, scale: Array,
) -> Array:  # fmt: skip
    """FrameBlock.forward: x [R, D], past [B, kernel - 1, D] -> [R, D]; updates the history."""
    rows, width = x.shape
    batch, last = len(past), past.shape[1]
    frames = rows // batch
    h = np.empty_like(x)
    for b in range(batch):
        first = b * frames
        for t in range(frames):
            to = h[first + t]
            to[:] = 0
            for i in range(last + 1):
                at = t + i - last
                source = past[b, last + at] if at < 0 else x[first + at]
                for d in range(width):
                    to[d] += source[d] * taps[i, d]
        for i in range(last):
            at = i + frames - last
            past[b, i] = past[b, i + frames] if at < 0 else x[first + at]
    wide = linear(norm(h, gain, bias, eps), w1, b1)
    for row in range(rows):
        for j in range(wide.shape[1]):
            s = wide[row, j]
            wide[row, j] = s * min(max(s + np.float32(3), np.float32(0)), np.float32(6)) * np.float32(1 / 6)
    h = linear(wide, w2, b2)
    for row in range(rows):
        for d in range(width):
            h[row, d] = x[row, d] + scale[d] * h[row, d]
    return h


@machine
def exponential(x: Array) -> Array:
    """x [R, n] float32 -> exp(x), in place, relative error 3e-7; x is clipped to [-80, 80].

    exp(x) = 2^k exp(r) with k the nearest whole number to x / ln 2 and |r| <= ln 2 / 2, exp(r) by its Taylor series.
    """
    power = np.empty(x.shape[1], np.int32)
    for row in range(len(x)):
        line = x[row]
        for i in range(len(line)):
            v = min(max(line[i], np.float32(-80)), np.float32(80))
            k = math.floor(v * np.float32(1.4426950408889634) + np.float32(0.5))
            r = (v - k * np.float32(0.693359375)) - k * np.float32(-2.12194440e-4)
            e = np.float32(1 / 720) * r + np.float32(1 / 120)
            e = e * r + np.float32(1 / 24)
            e = e * r + np.float32(1 / 6)
            e = e * r + np.float32(0.5)
            e = e * r + np.float32(1)
            line[i] = e * r + np.float32(1)
            power[i] = (np.int32(k) + 127) << 23
        scale = power.view(np.float32)
        for i in range(len(line)):
            line[i] *= scale[i]
    return x


@machine
def widened(bands: Array, widen: Array, correction: Array, band_floor: float, floor: float) -> Array:
    """MagnitudeNetwork.decode as magnitudes: log bands [R, n], widen [n, bins], correction [R, bins] -> [R, bins].

    Overwrites its inputs.
    """
    bands = exponential(bands)
    for row in range(len(bands)):
        for j in range(bands.shape[1]):
            bands[row, j] -= np.float32(band_floor)
    bins = linear(bands, widen, np.zeros(widen.shape[1], np.float32))
    factor = exponential(correction)
    low, least = np.float32(floor), np.float32(0)
    for row in range(len(bins)):
        for m in range(bins.shape[1]):
            base = max(bins[row, m], least) + abs(bins[row, m]) * np.float32(1 / 50) + low
            bins[row, m] = max(base * factor[row, m] - low, least)
    return bins


@machine
def by_slopes(magnitudes: Array, bins: int) -> Array:
    """tuner.by_slopes: magnitudes [R, more than bins] -> how far the lowest bins' frequencies lie off [R, bins]."""
    out, audible, off = np.empty((len(magnitudes), bins), np.float32), np.empty(bins + 1), np.empty(bins + 1)
    for row in range(len(magnitudes)):
        for m in range(bins + 1):
            audible[m] = max(magnitudes[row, m], SILENT)
        over_time(audible, 1.0, off)
        out[row] = off[:bins]
    return out


@machine
def look_up(z: Array, books: Array, widths: Array, halves: Array, stay: float, last: Array, codes: Array) -> None:
    """ResidualCodebooks.codes: z [R, D], books [K, D, C], halves |book|^2 / 2 [K, C], last [B, K] -> codes [B, K, T].

    Level k is about the first widths[k] of D numbers; its book is 0 in the others. Overwrites z by the final residual
    and `last` by the newest codes plus 1 (0: none yet). A level keeps the previous code if its squared distance is at
    most 1 + stay times the least. Ties go to the first code.
    """
    score = np.empty((BLOCK, books.shape[2]), np.float32)
    for row in range(0, len(z), BLOCK):
        rest = z[row : row + BLOCK]
        for level in range(len(books)):
            _product(rest, books[level], -halves[level], score[: len(rest)])
            _choose(rest, books[level, : widths[level]], score, stay, last[:, level], codes[:, level], row)


@machine
def _choose(z: Array, book: Array, score: Array, stay: float, last: Array, codes: Array, first: int) -> None:
    """One level of `look_up`: rows of z, from number `first` on, -> codes [B, T]; z loses what they say."""
    dim, frames = len(book), codes.shape[1]
    for row in range(len(z)):
        b, t = (first + row) // frames, (first + row) % frames
        scores = score[row]
        chosen = greatest(scores)
        before = last[b] - 1
        if stay > 0 and before >= 0 and before != chosen:
            length = np.float32(0)
            for i in range(dim):
                length += z[row, i] * z[row, i]
            if length - 2 * scores[before] <= np.float32(1 + stay) * (length - 2 * scores[chosen]):
                chosen = before
        codes[b, t] = chosen
        last[b] = chosen + 1
        for i in range(dim):
            z[row, i] -= book[i, chosen]


@machine
def greatest(x: Array) -> int:
    """Return the index of the maximum, the first among ties."""
    whole = len(x) // NARROW * NARROW
    found = peak(x, whole) if whole else 0
    for i in range(whole, len(x)):
        if x[i] > x[found]:
            found = i
    return found


@machine
def embed(codes: Array, embeddings: Array) -> Array:
    """codes [B, K, T], embeddings [K, C, E] -> latents [R, E] float32, level by level."""
    batch, levels, frames = codes.shape
    out = np.zeros((batch * frames, embeddings.shape[2]), np.float32)
    for row in range(len(out)):
        for level in range(levels):
            entry = embeddings[level, codes[row // frames, level, row % frames]]
            for d in range(embeddings.shape[2]):
                out[row, d] += entry[d]
    return out
