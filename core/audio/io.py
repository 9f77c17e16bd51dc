"""Reading and writing of audio files: mono float32 at a stated rate, with precise errors for unreadable files.

Claimed lengths are not trusted: files are read in blocks, to their end, and compared with their headers.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from accomp.core.audio.decoding import decoded_length, read_native, reading
from accomp.core.audio.lengths import PADDING
from accomp.core.errors import DataError
from accomp.core.trouble import named

BANDWIDTH_DB = -80.0
"""A frequency carries energy where the mean spectrum lies less than this below its peak."""

_BANDWIDTH_FFT = 2048
_BLOCK = 1024  # spectra at a time


def duration(files: Path | Sequence[Path]) -> tuple[int, int]:
    """Return (samples, sample rate in Hz) of a file; of several files that are summed, those of the longest.

    The length is that of the header, where plausible; counted by reading where no header states it. Raises DataError
    for a file that is missing, truncated or not audio, and for files that cannot be summed: of other rates, or of
    lengths that differ by more than PADDING.
    """
    headers = {path: decoded_length(path) for path in _each(files)}
    rates = {rate for _, rate in headers.values()}
    longest = max(headers, key=lambda path: headers[path])
    if len(rates) > 1:
        raise DataError(
            f"the files of one stem have different rates ({', '.join(map(str, sorted(rates)))} Hz); expected one rate "
            f"@ {longest.parent}"
        )
    samples, rate = headers[longest]
    for path, (length, _) in headers.items():
        if samples - length > PADDING * rate:
            raise DataError(
                f"the files of one stem are of unequal length: {path.name} {length / rate:.2f} s, {longest.name} "
                f"{samples / rate:.2f} s; expected at most {PADDING:g} s between them @ {path.parent}"
            )
    return samples, rate


def read(files: Path | Sequence[Path], rate: int, *, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """Read mono float32 [N] at `rate` Hz: channels averaged, resampled (soxr, best quality) where the file's rate
    differs.

    Several files are summed; one that is shorter, by PADDING at most, is padded with silence. Reads `seconds` from
    `start` (both s). Raises DataError for a missing, corrupt or truncated file, for NaN or Inf, for samples on another
    scale than [-1, 1], as `duration` does, and for a whole file whose channels cancel each other or that has a DC
    offset.
    """
    paths = _each(files)
    if len(paths) > 1:
        duration(paths)
    sounds, natives = zip(*(read_native(path, start, seconds) for path in paths), strict=True)
    total = sounds[0]
    if len(sounds) > 1:
        total = np.zeros(max(map(len, sounds)), dtype=np.float32)
        for sound in sounds:
            total[: len(sound)] += sound
    return resample(total, natives[0], rate)


def resample(audio: np.ndarray, native: int, rate: int) -> np.ndarray:
    """Resample audio [N] from `native` to `rate` Hz, float32 (soxr, very high quality); unchanged where they are
    equal.
    """
    if native == rate:
        return np.ascontiguousarray(audio, dtype=np.float32)
    return soxr.resample(audio.astype(np.float32), native, rate, quality="VHQ")


def bandwidth(audio: np.ndarray, rate: int) -> float:
    """Return the highest frequency (Hz) at which audio [N] carries energy: its mean spectrum is within 80 dB of the
    peak there.

    A 16 kHz recording resampled to 32 kHz has a bandwidth of 8 kHz. 0 for silence.
    """
    n = _BANDWIDTH_FFT
    window = np.hanning(n)
    padded = np.pad(np.asarray(audio, dtype=np.float32), (0, max(0, n - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n)[:: n // 2]
    power = np.zeros(n // 2 + 1)
    for start in range(0, len(frames), _BLOCK):
        power += (np.abs(np.fft.rfft(frames[start : start + _BLOCK] * window)) ** 2).sum(axis=0)
    heard = np.flatnonzero(power > power.max() * 10 ** (BANDWIDTH_DB / 10))
    return float(heard[-1] * rate / n) if heard.size else 0.0


def write(path: Path, audio: np.ndarray, rate: int) -> None:
    """Write float audio [N] or [N, channels] as 16-bit PCM (WAV or FLAC by the suffix).

    Raises ValueError for samples outside [-1, 1]: scale before, nothing is clipped silently.
    """
    peak = float(np.abs(audio).max(initial=0.0))
    if not peak <= 1.0:
        raise ValueError(f"peak {peak:.3f} would clip; scale the audio first @ {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with named(path):  # written by Python, whose errors are specific; libsndfile raises "System error"
        path.write_bytes(encoded(audio, rate, path.suffix))


def encoded(audio: np.ndarray, rate: int, suffix: str) -> bytes:
    """Encode float audio [N] or [N, channels] as the bytes of a 16-bit PCM file of that kind (".wav", ".flac")."""
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=suffix.removeprefix(".").upper(), subtype="PCM_16")
    return file.getvalue()


def _each(files: Path | Sequence[Path]) -> Sequence[Path]:
    return [files] if isinstance(files, Path) else files


def channels(path: Path) -> int:
    """Return the number of channels of a file. Raises DataError for one that is missing or not audio."""
    with reading(path), soundfile.SoundFile(os.fsencode(path)) as file:
        return file.channels
