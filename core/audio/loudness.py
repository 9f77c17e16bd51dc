"""Levels of audio: frame by frame, for silence detection, and over a clip, for mixing."""

from __future__ import annotations

import math

import numpy as np

from accomp.core.audio.levels import FLOOR_DB, SILENCE_DB

LISTENING_LUFS = -18.0
PEAK = 0.99
SILENT_PEAK = 1e-3
"""-60 dB of full scale."""

_STFT_FRAMES = 128  # frames transformed at a time: they stay in the cache, at any length of the clip


def a_weighted_level(audio: np.ndarray, rate: int, hop: int | None = None) -> np.ndarray:
    """Compute the level [N // hop + 1] of audio [N] at `rate` Hz, float32 dB re full scale, never below FLOOR_DB.

        level(t) = 10 log10(2 sum_f |X(t, f)|^2 10^(A(f) / 10) / n^2)     X: STFT, Hann, n = 2 hop, A: IEC 61672

    Value t belongs to the n samples centred at sample t * hop; zeros are assumed around the clip. `hop` is rate // 50
    where not given (50 Hz).
    """
    hop = hop or rate // 50
    n = 2 * hop
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    weights = 10 ** (a_weighting(np.fft.rfftfreq(n, 1 / rate)) / 10)
    weights[[0, -1]] *= 0.5  # DC and Nyquist stand for themselves, every other bin also for its mirror image
    padded = np.pad(np.asarray(audio, dtype=np.float64), hop)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n)[::hop]
    power = np.empty(len(frames))
    for start in range(0, len(frames), _STFT_FRAMES):
        block = np.fft.rfft(frames[start : start + _STFT_FRAMES] * window)
        power[start : start + _STFT_FRAMES] = (block.real**2 + block.imag**2) @ weights
    power *= 2 / n**2
    return (10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))).astype(np.float32)


def a_weighting(frequency: np.ndarray) -> np.ndarray:
    """Compute A(f) in dB of frequencies in Hz (IEC 61672), never below -80 dB; 0 dB at 1 kHz."""
    f2 = np.asarray(frequency, dtype=np.float64) ** 2
    poles = 20.598997**2, 107.65265**2, 737.86223**2, 12194.217**2
    gain = poles[3] * f2**2
    gain /= (f2 + poles[0]) * np.sqrt((f2 + poles[1]) * (f2 + poles[2])) * (f2 + poles[3])
    return np.maximum(2.0 + 20 * np.log10(np.maximum(gain, 1e-10)), -80.0)


def nonsilent(level_db: np.ndarray, threshold: float = SILENCE_DB) -> np.ndarray:
    """Compare levels in dB with a threshold (dB): bool mask of the same shape, True where the level is above it."""
    return level_db > threshold


def silent(audio: np.ndarray) -> bool:
    """Test that audio [N] stays below SILENT_PEAK, so that there is nothing to score."""
    return float(np.abs(audio).max(initial=0.0)) < SILENT_PEAK


def loudness(audio: np.ndarray, rate: int) -> float:
    """Compute the gated loudness of mono audio [N] in LUFS (ITU-R BS.1770-4); -inf for silence.

    Blocks of 0.4 s every 0.1 s; a clip shorter than one block is measured as a single block.
    """
    if len(audio) == 0:
        return -math.inf
    energy = np.concatenate([[0.0], np.cumsum(_k_weighted(audio, rate) ** 2)])
    length = min(rate * 2 // 5, len(audio))
    begin = np.arange(round((len(audio) - length) / (rate / 10)) + 1) * rate // 10
    power = (energy[np.minimum(begin + length, len(audio))] - energy[begin]) / length
    power = power[_lufs(power) >= -70.0]
    if power.size == 0:
        return -math.inf
    return float(_lufs(power[_lufs(power) > _lufs(power.mean()) - 10.0].mean()))


def normalise(audio: np.ndarray, rate: int, lufs: float = LISTENING_LUFS) -> np.ndarray:
    """Scale audio [N] to `lufs`, or to a peak of 0.99 where that is reached first. Silence (-inf LUFS) stays
    unchanged.
    """
    audio = _scaled(audio, rate, lufs)
    peak = float(np.abs(audio).max(initial=0.0))
    return audio * (PEAK / peak) if peak > PEAK else audio


def mix_for_listening(
    context: np.ndarray, stem: np.ndarray, rate: int, *, stems: int, lufs: float = LISTENING_LUFS, above_db: float = 5.0
) -> np.ndarray:
    """Mix context [N] (a mixture of `stems` stems) and stem [N] at `lufs`, with a peak of at most 0.99.

    The stem is `above_db` louder than each input stem, these being assumed equally loud: L_stem = L_context - 10
    log10(stems) + above_db. A silent context or stem stays silent; raises ValueError where lengths differ or `stems` is
    not positive.
    """
    if context.shape != stem.shape or stems < 1:
        raise ValueError(
            f"context {context.shape} and stem {stem.shape} must be equally long, stems={stems} at least 1"
        )
    target = lufs - 10 * math.log10(stems) + above_db
    return normalise(_scaled(context, rate, lufs) + _scaled(stem, rate, target), rate, lufs)


def _scaled(audio: np.ndarray, rate: int, lufs: float) -> np.ndarray:
    measured = loudness(audio, rate)
    return audio * 10 ** ((lufs - measured) / 20) if math.isfinite(measured) else audio.copy()


def _lufs(power: np.ndarray) -> np.ndarray:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-30))


def _k_weighted(audio: np.ndarray, rate: int) -> np.ndarray:
    """Apply the K filter (a high shelf of 4 dB at 1.5 kHz, a high pass at 38 Hz) to the spectra of blocks.

    The response of each block extends half a second into the next, where it has long decayed (overlap-add).
    """
    ring = rate // 2
    size = 2 ** max(17, (4 * ring - 1).bit_length())
    hop = size - ring
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response = np.ones_like(z)
    for b, a in (_high_shelf(rate, 4.0, 1500.0, 2**-0.5), _high_pass(rate, 38.0, 0.5)):
        response *= (b[0] + z * (b[1] + z * b[2])) / (a[0] + z * (a[1] + z * a[2]))
    weighted = np.zeros(len(audio) + size)
    for start in range(0, len(audio), hop):
        block = np.asarray(audio[start : start + hop], dtype=np.float64)
        weighted[start : start + size] += np.fft.irfft(np.fft.rfft(block, size) * response, size)
    return weighted[: len(audio)]


def _high_shelf(rate: int, gain_db: float, frequency: float, q: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the biquad (b, a) of R. Bristow-Johnson's audio EQ cookbook."""
    g = 10 ** (gain_db / 40)
    w = 2 * np.pi * frequency / rate
    c, r = np.cos(w), np.sin(w) / q * np.sqrt(g)  # r = 2 sqrt(g) alpha
    b = g * np.array([(g + 1) + (g - 1) * c + r, -2 * ((g - 1) + (g + 1) * c), (g + 1) + (g - 1) * c - r])
    a = np.array([(g + 1) - (g - 1) * c + r, 2 * ((g - 1) - (g + 1) * c), (g + 1) - (g - 1) * c - r])
    return b, a


def _high_pass(rate: int, frequency: float, q: float) -> tuple[np.ndarray, np.ndarray]:
    w = 2 * np.pi * frequency / rate
    c, alpha = np.cos(w), np.sin(w) / (2 * q)
    return np.array([(1 + c) / 2, -(1 + c), (1 + c) / 2]), np.array([1 + alpha, -2 * c, 1 - alpha])


def within_full_scale(sound: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale a decoded stem into the range of a file; return it with the factor. Raises ValueError for NaN and Inf."""
    if not np.isfinite(sound).all():
        raise ValueError("the decoded stem holds NaN or Inf")
    gain = min(1.0, 0.99 / max(float(np.abs(sound).max(initial=0.0)), 1e-9))
    return sound * np.float32(gain), gain
