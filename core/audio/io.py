"""Audio in and out of files: mono float32 at a stated rate, and clear words for what cannot be read.

No length is believed: what is there is read in blocks, to its end, and compared with what the header claims.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import soundfile
import soxr

from accomp.core.audio.containers import (
    DENSEST,
    check_length,
    flac_samples,
    is_mp3_of_unknown_length,
    without_flac_length,
)
from accomp.core.audio.lengths import PADDING
from accomp.core.errors import DataError
from accomp.core.trouble import named, reached

BANDWIDTH_DB = -80.0
"""A frequency carries energy where the mean spectrum lies less than this below its peak."""

HIGHEST_PEAK = 2.0
"""Float audio may overshoot 1 a little; beyond this its scale is another one."""

_BANDWIDTH_FFT = 2048
_BLOCK = 1024  # spectra at a time
_PIECE = 2**20  # samples of each channel read at a time
_CANCELLED = 0.01  # of the channels' level (-40 dB): a mean that soft is what two opposite channels leave
_OFFSET = 0.1  # of full scale: no microphone or synthesizer has a mean like that


def duration(files: Path | Sequence[Path]) -> tuple[int, int]:
    """(samples, sample rate in Hz) of a file; of several files that are summed, those of the longest.

    The header's length, where the file can hold it; counted by reading where no header tells it. Raises DataError for a
    file that is missing, cut off or not audio, and for files that cannot be one sound: of other rates, or of lengths
    that differ by more than PADDING.
    """
    headers = {path: _length(path) for path in _each(files)}
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
    `start` (both s). Raises DataError for a missing, corrupt or truncated file, for NaN or Inf, for samples on another
    scale than [-1, 1], as `duration` does, and for a whole file whose channels cancel each other or that is offset.
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


def channels(path: Path) -> int:
    """Channels of a file. Raises DataError for one that is missing or not audio."""
    with _reading(path), soundfile.SoundFile(os.fsencode(path)) as file:
        return file.channels


def _length(path: Path) -> tuple[int, int]:
    with _reading(path):
        check_length(path)
        info = soundfile.info(os.fsencode(path))
        if _is_to_be_counted(path):
            with _from_the_start(path) as file:
                return sum(map(len, _pieces(file, None))), file.samplerate
    return info.frames, info.samplerate


def _is_to_be_counted(path: Path) -> bool:
    """Whether no header tells the length. Raises DataError for one that tells more than the file can hold."""
    claimed, size = flac_samples(path), path.stat().st_size
    if claimed is not None and claimed > size * DENSEST:
        raise DataError(
            f"the header claims {claimed:,} samples, which {size:,} bytes cannot hold: it is damaged; decode the file "
            f"and encode it anew (flac -d --decode-through-errors, then flac) @ {path}"
        )
    return claimed == 0 or is_mp3_of_unknown_length(path)


def _read_native(path: Path, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
    """Mono [N] of one file, and its rate (Hz)."""
    whole = start == 0 and seconds is None
    with _reading(path):
        check_length(path)
        counted = _is_to_be_counted(path)
        if counted or (whole and flac_samples(path) is not None):
            samples, native = _read_through(path, start, seconds)
        else:
            samples, native = _read_part(path, start, seconds)
    _check_finite(samples, path)
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    _check_scale(mono, path)
    if whole and len(mono):
        _check_channels(samples, mono, path)
        _check_offset(mono, path)
    return mono, native


def _read_part(path: Path, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
    """[N, channels] from `start` on, of a file whose header tells its length. Raises DataError where it is shorter."""
    with soundfile.SoundFile(os.fsencode(path)) as file:
        native = file.samplerate
        file.seek(min(round(start * native), file.frames))
        wanted = file.frames - file.tell()
        if seconds is not None:
            wanted = min(wanted, round(seconds * native))
        samples = _joined(list(_pieces(file, wanted)), file.channels)
    if len(samples) < wanted:
        raise DataError(f"truncated audio: {len(samples)} of {wanted} samples could be read @ {path}")
    return samples, native


def _read_through(path: Path, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
    """[N, channels], read from the file's beginning on, whatever its header says of the length.

    Raises DataError for a whole file that holds another length than the header claims.
    """
    with _from_the_start(path) as file:
        native, skipped = file.samplerate, round(start * file.samplerate)
        wanted = None if seconds is None else skipped + round(seconds * native)
        samples = _joined(list(_pieces(file, wanted)), file.channels)[skipped:]
    claimed = flac_samples(path)
    if claimed and seconds is None and len(samples) + skipped != claimed:
        found = len(samples) + skipped
        why = "truncated audio" if found < claimed else "the header is damaged"
        raise DataError(f"{why}: {found} of {claimed} samples could be read @ {path}")
    return samples, native


def _pieces(file: soundfile.SoundFile, wanted: int | None) -> Iterator[np.ndarray]:
    """[n, channels] float32, until `wanted` samples are read or the sound ends: no claim is ever allocated."""
    left = wanted
    while left is None or left > 0:
        piece = np.empty((_PIECE if left is None else min(_PIECE, left), file.channels), dtype=np.float32)
        got = file.buffer_read_into(piece, "float32")
        if got:
            yield piece[:got]
        if got < len(piece):
            return
        left = None if left is None else left - got


def _joined(pieces: Sequence[np.ndarray], channels: int) -> np.ndarray:
    return np.concatenate([np.empty((0, channels), dtype=np.float32), *pieces])


class _Forward(soundfile.SoundFile):
    """A sound that is read once, from its beginning: nothing is sought, which an unknown length does not allow."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _from_the_start(path: Path) -> Iterator[soundfile.SoundFile]:
    """The sound of a FLAC file, without the length in its header, or of MPEG audio, as from a pipe: libsndfile reads
    these to their end, and others as far as it believes in."""
    if flac_samples(path) is not None:
        with io.BufferedReader(_WithoutLength(path)) as raw, _Forward(raw) as file:
            yield file
        return
    out, into = os.pipe()
    feeder = threading.Thread(target=_feed, args=(path, into), daemon=True)
    feeder.start()
    try:
        with _Forward(out, closefd=False) as file:
            yield file
    finally:
        os.close(out)
        feeder.join()


def _feed(path: Path, into: int) -> None:
    with suppress(BrokenPipeError), path.open("rb") as file, os.fdopen(into, "wb") as pipe:
        while block := file.read(2**16):
            pipe.write(block)


class _WithoutLength(io.FileIO):
    """A FLAC file whose header does not say how long it is."""

    _HEAD = 64

    def __init__(self, path: Path):
        super().__init__(os.fsencode(path), "rb")
        self._head = without_flac_length(super().read(self._HEAD))
        self.seek(0)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        place = self.tell()
        count = super().readinto(buffer)
        known = self._head[place : place + count]
        memoryview(buffer).cast("B")[: len(known)] = known
        return count


def _check_finite(samples: np.ndarray, path: Path) -> None:
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).any(axis=1).argmax())
        raise DataError(f"audio holds NaN or Inf, first at sample {bad} @ {path}")


def _check_scale(mono: np.ndarray, path: Path) -> None:
    peak = float(np.abs(mono).max(initial=0.0))
    if peak > HIGHEST_PEAK:
        raise DataError(f"peak {peak:g}; expected samples in [-1, 1] @ {path}")


def _check_channels(samples: np.ndarray, mono: np.ndarray, path: Path) -> None:
    level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    left = float(np.sqrt(np.mean(np.square(mono, dtype=np.float64))))
    if samples.shape[1] > 1 and level > 1e-3 and left < _CANCELLED * level:
        raise DataError(
            f"its {samples.shape[1]} channels cancel each other (in antiphase), nothing is left of their mean; turn "
            f"the polarity of one, or save one channel alone @ {path}"
        )


def _check_offset(mono: np.ndarray, path: Path) -> None:
    offset = float(np.mean(mono, dtype=np.float64))
    if abs(offset) > _OFFSET:
        raise DataError(
            f"the samples have a mean of {offset:.2f} (a DC offset); expected one near 0: remove it in an audio editor "
            f"@ {path}"
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reached(path)
    if not path.exists():
        return DataError(f"no such audio file @ {path}")
    why = error.error_string if isinstance(error, soundfile.LibsndfileError) else error
    return DataError(f"cannot read audio: {why} @ {path}")
