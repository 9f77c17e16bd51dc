"""Decoding of audio files in blocks, to their end, whatever length the header claims; checks of the samples."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import soundfile

from accomp.core.audio.containers import (
    DENSEST,
    check_length,
    flac_samples,
    is_mp3_of_unknown_length,
    without_flac_length,
)
from accomp.core.errors import DataError
from accomp.core.trouble import reached

HIGHEST_PEAK = 2.0
"""Float audio may overshoot 1 a little; a higher peak means another scale."""

_PIECE = 2**20  # samples of each channel read at a time
_CANCELLED = 0.01  # of the channels' level (-40 dB): the mean of two opposite channels is that soft
_OFFSET = 0.1  # of full scale: no microphone or synthesizer has a mean like that


def decoded_length(path: Path) -> tuple[int, int]:
    with reading(path):
        check_length(path)
        info = soundfile.info(os.fsencode(path))
        if _is_to_be_counted(path):
            with _from_the_start(path) as file:
                return sum(map(len, _pieces(file, None))), file.samplerate
    return info.frames, info.samplerate


def read_native(path: Path, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
    """Read one file as mono [N], with its rate (Hz)."""
    whole = start == 0 and seconds is None
    with reading(path):
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


@contextmanager
def reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error


def _is_to_be_counted(path: Path) -> bool:
    """Test that no header states the length. Raises DataError for one that states more than the file can hold."""
    claimed, size = flac_samples(path), path.stat().st_size
    if claimed is not None and claimed > size * DENSEST:
        raise DataError(
            f"the header claims {claimed:,} samples, which {size:,} bytes cannot hold: it is damaged; decode the file "
            f"and encode it anew (flac -d --decode-through-errors, then flac) @ {path}"
        )
    return claimed == 0 or is_mp3_of_unknown_length(path)


def _read_part(path: Path, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
    """Read [N, channels] from `start` on, of a file whose header states its length. Raises DataError where it is
    shorter.
    """
    with soundfile.SoundFile(os.fsencode(path)) as file:
        native = file.samplerate
        file.seek(min(round(start * native), file.frames))
        count = file.frames - file.tell()
        if seconds is not None:
            count = min(count, round(seconds * native))
        samples = _joined(list(_pieces(file, count)), file.channels)
    if len(samples) < count:
        raise DataError(f"truncated audio: {len(samples)} of {count} samples could be read @ {path}")
    return samples, native


def _read_through(path: Path, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
    """Read [N, channels] from the file's beginning on, for any length in its header.

    Raises DataError for a whole file whose length differs from that of the header.
    """
    with _from_the_start(path) as file:
        native, skipped = file.samplerate, round(start * file.samplerate)
        count = None if seconds is None else skipped + round(seconds * native)
        samples = _joined(list(_pieces(file, count)), file.channels)[skipped:]
    claimed = flac_samples(path)
    if claimed and seconds is None and len(samples) + skipped != claimed:
        found = len(samples) + skipped
        why = "truncated audio" if found < claimed else "the header is damaged"
        raise DataError(f"{why}: {found} of {claimed} samples could be read @ {path}")
    return samples, native


def _pieces(file: soundfile.SoundFile, count: int | None) -> Iterator[np.ndarray]:
    """Yield [n, channels] float32, until `wanted` samples are read or the file ends; nothing is allocated by claimed
    length.
    """
    left = count
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
    """A sound file that is read once, from its beginning: an unknown length does not allow seeking."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _from_the_start(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a FLAC file without the length in its header, or MPEG audio, as from a pipe: libsndfile then reads to the
    end of the data instead of the claimed length.
    """
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
    """A FLAC file whose header does not state its length."""

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


def _unreadable(path: Path, error: Exception) -> DataError:
    reached(path)
    if not path.exists():
        return DataError(f"no such audio file @ {path}")
    why = error.error_string if isinstance(error, soundfile.LibsndfileError) else error
    return DataError(f"cannot read audio: {why} @ {path}")
