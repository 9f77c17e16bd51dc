"""Audio in and out of files: mono float32 at a stated rate, and clear words for what cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

from accomp.core.errors import DataError


def duration(path: Path) -> tuple[int, int]:
    """(samples, sample rate in Hz) from a file's header. Raises DataError for a file that is missing or not audio."""
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"cannot read audio: {error} @ {path}") from error
    return info.frames, info.samplerate


def read(path: Path, rate: int, *, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """Mono float32 [N] at `rate` Hz: channels averaged, resampled (soxr, best quality) where the file's rate differs.

    Reads `seconds` from `start` (both s). Raises DataError for a missing, corrupt or truncated file and for NaN or Inf.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            native = file.samplerate
            file.seek(min(round(start * native), file.frames))
            wanted = file.frames - file.tell()
            if seconds is not None:
                wanted = min(wanted, round(seconds * native))
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"cannot read audio: {error} @ {path}") from error
    if len(samples) < wanted:
        raise DataError(f"truncated audio: {len(samples)} of {wanted} samples could be read @ {path}")
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).any(axis=1).argmax())
        raise DataError(f"audio holds NaN or Inf, first at sample {bad} @ {path}")
    return resample(samples.mean(axis=1), native, rate)


def resample(audio: np.ndarray, native: int, rate: int) -> np.ndarray:
    """audio [N] at `native` Hz -> float32 at `rate` Hz (soxr, very high quality); unchanged where they are equal."""
    if native == rate:
        return np.ascontiguousarray(audio, dtype=np.float32)
    return soxr.resample(audio.astype(np.float32), native, rate, quality="VHQ")


def write(path: Path, audio: np.ndarray, rate: int) -> None:
    """Write float audio [N] or [N, channels] as 16-bit PCM (WAV or FLAC by the suffix).

    Raises ValueError for samples outside [-1, 1]: scale before, nothing is clipped silently.
    """
    peak = float(np.abs(audio).max(initial=0.0))
    if not peak <= 1.0:
        raise ValueError(f"peak {peak:.3f} would clip; scale the audio first @ {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), audio, rate, subtype="PCM_16")
