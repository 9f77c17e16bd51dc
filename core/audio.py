"""Audio in and out of files: mono float32 at a stated rate, and clear words for what cannot be read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from accomp.core.errors import DataError
from accomp.core.trouble import named, reached

BANDWIDTH_DB = -80.0
"""A frequency carries energy where the mean spectrum lies less than this below its peak."""

PADDING = 1.0
"""A file that is shorter than those it belongs to by at most this many seconds gets silence at its end."""

_BANDWIDTH_FFT = 2048
_BLOCK = 1024  # spectra at a time


def duration(files: Path | Sequence[Path]) -> tuple[int, int]:
    """(samples, sample rate in Hz) from a file's header; of several files that are summed, those of the longest.

    Raises DataError for a file that is missing or not audio, and for files that cannot be one sound: of other rates, or
    of lengths that differ by more than PADDING.
    """
    headers = {path: _header(path) for path in _each(files)}
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
    """Mono float32 [N] at `rate` Hz: channels averaged, resampled (soxr, best quality) where the file's rate differs.

    Several files are summed; one that is shorter, by PADDING at most, is silent after its end. Reads `seconds` from
    `start` (both s). Raises DataError for a missing, corrupt or truncated file, for NaN or Inf, and as `duration` does.
    """
    paths = _each(files)
    if len(paths) > 1:
        duration(paths)
    sounds, natives = zip(*(_read_native(path, start, seconds) for path in paths), strict=True)
    total = sounds[0]
    if len(sounds) > 1:
        total = np.zeros(max(map(len, sounds)), dtype=np.float32)
        for sound in sounds:
            total[: len(sound)] += sound
    return resample(total, natives[0], rate)


def resample(audio: np.ndarray, native: int, rate: int) -> np.ndarray:
    """audio [N] at `native` Hz -> float32 at `rate` Hz (soxr, very high quality); unchanged where they are equal."""
    if native == rate:
        return np.ascontiguousarray(audio, dtype=np.float32)
    return soxr.resample(audio.astype(np.float32), native, rate, quality="VHQ")


def bandwidth(audio: np.ndarray, rate: int) -> float:
    """Highest frequency (Hz) at which audio [N] carries energy: its mean spectrum is within 80 dB of the peak there.

    Tells what the rate alone does not: a 16 kHz recording resampled to 32 kHz has nothing above 8 kHz. 0 for silence.
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
    with named(path):  # through Python, which tells why a file cannot be written; libsndfile says "System error"
        path.write_bytes(encoded(audio, rate, path.suffix))


def encoded(audio: np.ndarray, rate: int, suffix: str) -> bytes:
    """Float audio [N] or [N, channels] as a file of 16-bit PCM of that kind (".wav", ".flac")."""
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=suffix.removeprefix(".").upper(), subtype="PCM_16")
    return file.getvalue()


def _each(files: Path | Sequence[Path]) -> Sequence[Path]:
    return [files] if isinstance(files, Path) else files


def _header(path: Path) -> tuple[int, int]:
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    return info.frames, info.samplerate


def _read_native(path: Path, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
    """Mono [N] of one file, and its rate (Hz)."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            native = file.samplerate
            file.seek(min(round(start * native), file.frames))
            wanted = file.frames - file.tell()
            if seconds is not None:
                wanted = min(wanted, round(seconds * native))
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    if len(samples) < wanted:
        raise DataError(f"truncated audio: {len(samples)} of {wanted} samples could be read @ {path}")
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).any(axis=1).argmax())
        raise DataError(f"audio holds NaN or Inf, first at sample {bad} @ {path}")
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1), native


def _unreadable(path: Path, error: Exception) -> DataError:
    reached(path)
    if not path.exists():
        return DataError(f"no such audio file @ {path}")
    why = error.error_string if isinstance(error, soundfile.LibsndfileError) else error
    return DataError(f"cannot read audio: {why} @ {path}")
