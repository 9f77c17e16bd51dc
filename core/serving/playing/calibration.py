"""Loopback latency from a page's output to its input, measured with a probe signal.

The probe is three maximum-length sequences (S. Golomb, Shift Register Sequences, 1967), whose autocorrelation is one
peak; they are correlated with the microphone's signal.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from scipy.signal import butter, sosfilt

from accomp.core.serving.protocol.frames import Frame

ORDER, TAPS = 15, (15, 14)
"""x^15 + x^14 + 1 is primitive: the period is 32767 samples."""
LEVEL = 10 ** (-12 / 20)
PAUSE = 0.5
BURSTS = 3
LONGEST = 1.0
"""Longest detectable latency in seconds."""
HIGH_PASS = 100.0
AGREE, PEAK_DB = 0.001, 20.0
"""Largest difference of the bursts in seconds, and smallest height of each peak above the rest."""
BEFORE, AFTER = 0.002, 0.06
"""Seconds around a peak that hold the room's response; above that a height of ECHO_DB suffices."""
ECHO_DB = 6.0
SLOW = 0.15
SILENCE = 1e-4


def sequence() -> np.ndarray:
    """The maximum-length sequence, [2^15 - 1] of +1 and -1."""
    state, out = 1, np.empty(2**ORDER - 1, np.float32)
    for i in range(len(out)):
        out[i] = 1.0 if state & 1 else -1.0
        state = (state >> 1) | (((state ^ (state >> 1)) & 1) << (ORDER - 1))
    return out


def probe(rate: int) -> np.ndarray:
    """Make the probe at a page's rate, float32 mono: the bursts, each followed by a pause."""
    burst, pause = LEVEL * sequence(), np.zeros(round(PAUSE * rate), np.float32)
    return np.concatenate([part for _ in range(BURSTS) for part in (burst, pause)]).astype(np.float32)


@frozen
class Loopback:
    """Result of a measurement.

    Attributes:
        ok: whether the bursts agree and stand out.
        first: latency (s), the median; agree: range over the bursts (s).
        snr_db: height of the smallest peak above the rest.
        why: problem or remark, in words.
    """

    ok: bool
    first: float = 0.0
    agree: float = 0.0
    snr_db: float = 0.0
    why: str = ""


def measure_loopback(received: np.ndarray, rate: int) -> Loopback:
    """Measure the latency. received [n]: input from the place of the probe's first output sample on, until LONGEST
    after its end, or less.
    """
    step = 2**ORDER - 1 + round(PAUSE * rate)
    if len(received) < BURSTS * step:
        return Loopback(
            False, why=f"only {len(received) / rate:.1f} s were received of {BURSTS * step / rate:.1f} s; try again"
        )
    received = np.where(np.isfinite(received), received, 0).astype(np.float64)
    if np.abs(received).max() < SILENCE:
        return Loopback(False, why="nothing was heard: is the microphone the right one, and not muted?")
    filtering = butter(2, HIGH_PASS, "highpass", fs=rate, output="sos")
    burst = sosfilt(filtering, sequence().astype(np.float64))
    sound = sosfilt(filtering, received)
    window = len(burst) + round(LONGEST * rate)
    peaks = [_peak(sound[number * step :][:window], burst, rate) for number in range(BURSTS)]
    times = np.array([at / rate for at, _, _ in peaks])
    first, agree, snr = float(np.median(times)), float(np.ptp(times)), min(db for _, db, _ in peaks)
    doubled = min(echo for _, _, echo in peaks) < ECHO_DB
    why = _problem(agree, snr, doubled, float(np.abs(received).max()))
    return Loopback(not why, first, agree, snr, why or _remark(first))


def measure_frames(frames: list[Frame], place: int, rate: int) -> Loopback:
    """Assemble the input from a place on, holes as silence, until the probe must have returned -> the measurement."""
    received = np.zeros(len(probe(rate)) + round(LONGEST * rate), np.float32)
    end = 0
    for frame in frames:
        first, last = frame.place - place, frame.place - place + len(frame.samples)
        begin, stop = max(0, first), min(len(received), last)
        if begin < stop:
            received[begin:stop] = frame.samples[begin - first : stop - first]
            end = max(end, stop)
    return measure_loopback(received[:end], rate)


def _peak(sound: np.ndarray, burst: np.ndarray, rate: int) -> tuple[float, float, float]:
    """Position of a burst in a sound (samples, interpolated by a parabola), its height in dB above everything outside
    the room's response, and above that response.
    """
    size = 1 << (len(sound) + len(burst) - 1).bit_length()
    spectrum = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(burst, size))
    correlation = np.abs(np.fft.irfft(spectrum, size)[: round(LONGEST * rate)])
    at = int(correlation.argmax())
    room = slice(max(0, at - round(BEFORE * rate)), at + round(AFTER * rate))
    near = slice(max(0, at - 50), at + 51)
    answer = correlation.copy()
    answer[near] = 0
    far = correlation.copy()
    far[room] = 0
    return at + _parabola(correlation, at), _over(correlation[at], far), _over(correlation[at], answer[room])


def _over(peak: float, rest: np.ndarray) -> float:
    return 20 * float(np.log10(max(peak, 1e-12) / max(float(rest.max(initial=0.0)), 1e-12)))


def _parabola(values: np.ndarray, at: int) -> float:
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = values[at - 1 : at + 2]
    curve = before - 2 * here + after
    return float(0.5 * (before - after) / curve) if curve < 0 else 0.0


def _problem(agree: float, snr: float, doubled: bool, loudest: float) -> str:
    if snr < PEAK_DB / 2:
        return (
            "the probe was not found in the input: too quiet, too noisy, or echo cancellation took it out; turn "
            "the volume up, or hold a headphone to the microphone"
        )
    if agree > AGREE:
        return f"the device is unsteady: three measurements differ by {1000 * agree:.1f} ms; try again"
    if doubled:
        return "the probe was heard twice: the device is unsteady, or plays it in two places; try again"
    if snr < PEAK_DB:
        cut = "; the microphone is overdriven, turn it down" if loudest >= 0.999 else "; turn the volume up"
        return f"too noisy: the probe stands only {snr:.0f} dB above the rest{cut}"
    return ""


def _remark(first: float) -> str:
    return f"{1000 * first:.0f} ms is long; is it Bluetooth? A cable is faster" if first > SLOW else ""
