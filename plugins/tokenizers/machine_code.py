"""The steps of the `spectral` network over few frames, as machine code that numba makes: what live playing runs.

torch takes some hundred operations for a frame, each of which costs more than its arithmetic, and reads the weights of
an encoder in float64. Here they are read in float32, exactly what the file holds, and every product and sum is in the
type of x. Row r = b * T + t is frame t of row b; the last rows of the past come before its first frame.

Importing this needs numba. A function is compiled when it is first called with a type, and kept on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
Function = TypeVar("Function", bound=Callable[..., Any])


def _machine(function: Function) -> Function:
    options: dict[str, Any] = {"fastmath": {"reassoc", "contract", "arcp", "nsz"}, "nogil": True}
    options["error_model"] = "numpy"
    try:
        made: Function = njit(function, cache=True, **options)
    except RuntimeError:  # there is no folder where it could keep what it makes
        made = njit(function, **options)
    return made


@_machine
def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x [R, n], weight [m, n], bias [m] -> [R, m]; a weight that was read serves four rows."""
    rows, zero = len(x), x.dtype.type(0)
    out = np.empty((rows, len(weight)), x.dtype)
    for j in range(len(weight)):
        row = 0
        while row + 4 <= rows:
            s0 = s1 = s2 = s3 = zero
            for i in range(x.shape[1]):
                w = x.dtype.type(weight[j, i])
                s0 += w * x[row, i]
                s1 += w * x[row + 1, i]
                s2 += w * x[row + 2, i]
                s3 += w * x[row + 3, i]
            out[row, j] = s0 + bias[j]
            out[row + 1, j] = s1 + bias[j]
            out[row + 2, j] = s2 + bias[j]
            out[row + 3, j] = s3 + bias[j]
            row += 4
        while row < rows:
            s = zero
            for i in range(x.shape[1]):
                s += weight[j, i] * x[row, i]
            out[row, j] = s + bias[j]
            row += 1
    return out


@_machine
def norm(x: Array, gain: Array, bias: Array, eps: float) -> Array:
    """x [R, D], normalised over D in place."""
    width = x.shape[1]
    for row in range(len(x)):
        mean = x.dtype.type(0)
        for d in range(width):
            mean += x[row, d]
        mean /= width
        square = x.dtype.type(0)
        for d in range(width):
            x[row, d] -= mean
            square += x[row, d] * x[row, d]
        steep = x.dtype.type(1 / math.sqrt(square / width + eps))
        for d in range(width):
            x[row, d] = x[row, d] * steep * gain[d] + bias[d]
    return x


@_machine
def block(
    x: Array, past: Array, eps: float, taps: Array, gain: Array, bias: Array,
    w1: Array, b1: Array, w2: Array, b2: Array, scale: Array,
) -> Array:  # fmt: skip
    """CausalBlock.forward: x [R, D], past [B, kernel - 1, D] -> [R, D]; x moves into the past."""
    rows, width = x.shape
    batch, last = len(past), past.shape[1]
    frames = rows // batch
    h = np.empty_like(x)
    for b in range(batch):
        first = b * frames
        for t in range(frames):
            for d in range(width):
                h[first + t, d] = x[first + t, d] * taps[last, d]
            for i in range(last):
                at = t + i - last
                for d in range(width):
                    before = past[b, last + at, d] if at < 0 else x[first + at, d]
                    h[first + t, d] += before * taps[i, d]
        for i in range(last):
            at = i + frames - last
            for d in range(width):
                past[b, i, d] = past[b, i + frames, d] if at < 0 else x[first + at, d]
    wide = linear(norm(h, gain, bias, eps), w1, b1)
    for row in range(rows):
        for j in range(wide.shape[1]):
            s = wide[row, j]
            wide[row, j] = 0.5 * s * (1 + math.erf(s * math.sqrt(0.5)))
    h = linear(wide, w2, b2)
    for row in range(rows):
        for d in range(width):
            h[row, d] = x[row, d] + scale[d] * h[row, d]
    return h


@_machine
def windows(audio: Array, past: Array, window: Array, hop: int) -> Array:
    """audio [B, T * hop], past [B, P] -> windows of P + hop samples [R, P + hop]; the audio moves into the past."""
    batch, kept = past.shape
    frames = audio.shape[1] // hop
    out = np.empty((batch * frames, kept + hop), audio.dtype)
    for b in range(batch):
        for t in range(frames):
            for n in range(kept + hop):
                at = t * hop + n - kept
                out[b * frames + t, n] = (past[b, kept + at] if at < 0 else audio[b, at]) * window[n]
        for n in range(kept):
            at = n + frames * hop - kept
            past[b, n] = past[b, n + frames * hop] if at < 0 else audio[b, at]
    return out


@_machine
def features(spectrum: Array, vectors: int) -> Array:
    """Analysis.features: spectrum [R, bins] complex -> [R, bins + 2 * vectors]."""
    rows, bins = spectrum.shape
    out = np.empty((rows, bins + 2 * vectors), spectrum.real.dtype)
    for row in range(rows):
        for i in range(bins):
            real, imaginary = spectrum[row, i].real, spectrum[row, i].imag
            magnitude = math.sqrt(real * real + imaginary * imaginary)
            out[row, i] = math.log1p(magnitude * 1e4) / 4
            if i < vectors:
                steep = math.sqrt(magnitude + 1e-3)
                out[row, bins + i] = real / steep
                out[row, bins + vectors + i] = imaginary / steep
    return out


@_machine
def look_up(projected: Array, directions: Array, removed: Array, codes: Array) -> None:
    """FrozenQuantizer.quantize: projected [R, K * dim], directions [K, dim, C], removed [K, C, K * dim].

    Writes codes [B, K, T], and `projected`. Of equals the first is nearest, as argmax says.
    """
    levels, dim, size = directions.shape
    frames = codes.shape[2]
    score = np.empty(size, projected.dtype)
    for row in range(len(projected)):
        for level in range(levels):
            score[:] = 0
            for i in range(dim):
                along = projected[row, level * dim + i]
                for c in range(size):
                    score[c] += along * directions[level, i, c]
            nearest = 0
            for c in range(1, size):
                if score[c] > score[nearest]:
                    nearest = c
            codes[row // frames, level, row % frames] = nearest
            for i in range(projected.shape[1]):
                projected[row, i] -= removed[level, nearest, i]


@_machine
def embed(codes: Array, embeddings: Array, size: int) -> Array:
    """FrozenQuantizer.embed: codes [B, K, T], embeddings [K * C, E], C = size -> latents [R, E]."""
    batch, levels, frames = codes.shape
    out = np.zeros((batch * frames, embeddings.shape[1]), embeddings.dtype)
    for row in range(len(out)):
        for level in range(levels):
            entry = level * size + codes[row // frames, level, row % frames]
            for d in range(embeddings.shape[1]):
                out[row, d] += embeddings[entry, d]
    return out


@_machine
def spectra(said: Array, bins: int, low: int, loudness: float) -> Array:
    """Of Synthesis.grains what comes before the Fourier transform: said [R, 2 * bins + low] -> [R, bins] complex."""
    out = np.empty((len(said), bins), np.complex64)
    for row in range(len(said)):
        for i in range(bins):
            level = loudness * math.exp(min(said[row, i], np.float32(3.0)))
            if i < low:
                out[row, i] = level * complex(said[row, bins + i], said[row, bins + low + i])
            else:
                angle = said[row, bins + low + i]
                out[row, i] = level * complex(math.cos(angle), math.sin(angle))
    return out


@_machine
def overlap(grains: Array, window: Array, past: Array) -> Array:
    """Synthesis.forward behind the Fourier transform: grains [B, n, 2 * step], past [B, 1, step] -> [B, n * step].

    The second half of the last grain moves into the past.
    """
    batch, count = grains.shape[:2]
    step = grains.shape[2] // 2
    out = np.empty((batch, count * step), grains.dtype)
    for b in range(batch):
        for g in range(count):
            for n in range(step):
                fading = past[b, 0, n] if g == 0 else grains[b, g - 1, step + n] * window[step + n]
                out[b, g * step + n] = grains[b, g, n] * window[n] + fading
        for n in range(step):
            past[b, 0, n] = grains[b, count - 1, step + n] * window[step + n]
    return out
