"""The steps of the `magnitude` network over frames, as machine code whose order of operations is fixed.

A library's matrix product of one row and one of five hundred differ in the last digits, which is enough to tip a vector
that lies between two codes, and to turn a phase that hangs on a comparison. Here every output is the same chain of
float32 operations whatever the number of rows and whichever rows share the call, so that a stream gives the very bits
of an offline call. Loops run along the outputs, which stand side by side in memory, so that they are vectorised
without reordering a sum.

Rows of x are frames: row b * T + t is frame t of row b of a batch. Importing this needs numba. A function is compiled
when it is first called and kept on disk.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accomp.plugins.tokenizers.phase.fourier import Tables, forward
from accomp.plugins.tokenizers.phase.machine import machine

Array = np.ndarray[Any, Any]


@machine
def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x [R, n], weight [n, m], bias [m] -> x weight + bias [R, m], all float32; n is a multiple of 4.

    Four rows share the weights that were read; every output is ((bias + x0 w0) + x1 w1) + ... in this order.
    """
    rows, inputs = x.shape
    outputs = weight.shape[1]
    out = np.empty((rows, outputs), np.float32)
    for row in range(rows):
        out[row] = bias
    row = 0
    while row + 4 <= rows:
        o0, o1, o2, o3 = out[row], out[row + 1], out[row + 2], out[row + 3]
        for i in range(0, inputs, 4):
            w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
            a0, a1, a2, a3 = x[row, i], x[row, i + 1], x[row, i + 2], x[row, i + 3]
            b0, b1, b2, b3 = x[row + 1, i], x[row + 1, i + 1], x[row + 1, i + 2], x[row + 1, i + 3]
            c0, c1, c2, c3 = x[row + 2, i], x[row + 2, i + 1], x[row + 2, i + 2], x[row + 2, i + 3]
            d0, d1, d2, d3 = x[row + 3, i], x[row + 3, i + 1], x[row + 3, i + 2], x[row + 3, i + 3]
            for j in range(outputs):
                o0[j] = (((o0[j] + a0 * w0[j]) + a1 * w1[j]) + a2 * w2[j]) + a3 * w3[j]
                o1[j] = (((o1[j] + b0 * w0[j]) + b1 * w1[j]) + b2 * w2[j]) + b3 * w3[j]
                o2[j] = (((o2[j] + c0 * w0[j]) + c1 * w1[j]) + c2 * w2[j]) + c3 * w3[j]
                o3[j] = (((o3[j] + d0 * w0[j]) + d1 * w1[j]) + d2 * w2[j]) + d3 * w3[j]
        row += 4
    while row < rows:
        o0 = out[row]
        for i in range(0, inputs, 4):
            w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
            a0, a1, a2, a3 = x[row, i], x[row, i + 1], x[row, i + 2], x[row, i + 3]
            for j in range(outputs):
                o0[j] = (((o0[j] + a0 * w0[j]) + a1 * w1[j]) + a2 * w2[j]) + a3 * w3[j]
        row += 1
    return out


@machine
def norm(x: Array, gain: Array, bias: Array, eps: float) -> Array:
    """x [R, D], normalised over D in place: nn.LayerNorm. Sums are taken in float64, one after the other."""
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
    """FrameBlock.forward: x [R, D], past [B, kernel - 1, D] -> [R, D]; x moves into the past."""
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
def log_bands(
    audio: Array, past: Array, hop: int, window: Array, first: Array, weights: Array, floor: float, grid: float,
    of: Tables,
) -> Array:  # fmt: skip
    """log(floor + sum_i weights[j, i] |S[first[j] + i]|) [B * (N // hop), bands] float32 of audio [B, N] float64.

    S is the transform of the last samples at every hop, times `window`; past [B, P] comes before the audio, and stays
    as it is: `remember` moves the audio there. Each logarithm is rounded to a multiple of `grid`.
    """
    batch, kept = past.shape
    size, bands, widest = len(window), weights.shape[0], weights.shape[1]
    frames = audio.shape[1] // hop
    out = np.empty((batch * frames, bands), np.float32)
    sound, work = np.empty(size), np.empty((4, size // 2))
    real, imaginary = np.empty(size // 2 + 1), np.empty(size // 2 + 1)
    magnitude = np.zeros(size // 2 + 1 + widest)
    for b in range(batch):
        for t in range(frames):
            for n in range(size):
                at = (t + 1) * hop - size + n
                sound[n] = (past[b, kept + at] if at < 0 else audio[b, at]) * window[n]
            forward(sound, real, imaginary, work, of)
            for m in range(size // 2 + 1):
                magnitude[m] = math.sqrt(real[m] * real[m] + imaginary[m] * imaginary[m])
            to = out[b * frames + t]
            for j in range(bands):
                total = floor
                for i in range(widest):
                    total += weights[j, i] * magnitude[first[j] + i]
                to[j] = np.rint(math.log(total) / grid) * grid
    return out


@machine
def remember(audio: Array, past: Array) -> None:
    """The last samples of past [B, P] and audio [B, N] become the past."""
    batch, kept = past.shape
    samples = audio.shape[1]
    for b in range(batch):
        for n in range(kept):
            at = n + samples - kept
            past[b, n] = past[b, n + samples] if at < 0 else audio[b, at]


@machine
def exponential(x: Array) -> Array:
    """x [R, n] float32 -> exp(x), in place, to a relative 3e-7 for -80 <= x <= 80, held there outside.

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

    Writes over its inputs.
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
def look_up(z: Array, books: Array, halves: Array, stay: float, last: Array, codes: Array) -> None:
    """ResidualCodebooks.codes: z [R, D], books [K, D, C], halves |book|^2 / 2 [K, C], last [B, K] -> codes [B, K, T].

    Overwrites z by what no level explains, `last` by the newest codes plus 1 (0: none yet). A level keeps the code of
    the frame before where its squared distance is at most 1 + stay times the least. Of equals the first is nearest.
    """
    levels, dim, size = books.shape
    frames = codes.shape[2]
    score = np.empty(size, np.float32)
    for row in range(len(z)):
        b, t = row // frames, row % frames
        for level in range(levels):
            book = books[level]
            for c in range(size):
                score[c] = -halves[level, c]
            for i in range(0, dim, 4):
                z0, z1, z2, z3 = z[row, i], z[row, i + 1], z[row, i + 2], z[row, i + 3]
                b0, b1, b2, b3 = book[i], book[i + 1], book[i + 2], book[i + 3]
                for c in range(size):
                    score[c] = (((score[c] + z0 * b0[c]) + z1 * b1[c]) + z2 * b2[c]) + z3 * b3[c]
            nearest = 0
            for c in range(1, size):
                if score[c] > score[nearest]:
                    nearest = c
            before = last[b, level] - 1
            if stay > 0 and before >= 0 and before != nearest:
                length = np.float32(0)
                for i in range(dim):
                    length += z[row, i] * z[row, i]
                if length - 2 * score[before] <= np.float32(1 + stay) * (length - 2 * score[nearest]):
                    nearest = before
            codes[b, level, t] = nearest
            last[b, level] = nearest + 1
            for i in range(dim):
                z[row, i] -= book[i, nearest]


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
