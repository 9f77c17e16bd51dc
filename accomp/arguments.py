"""Checks of what the face is given: samples and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accomp.core.errors import UserError


def sound_of(audio: str | Path | ArrayLike, sample_rate: int | None, rate: int) -> NDArray[np.float32]:
    """A recording, a file or samples [N] at `sample_rate`, as mono samples at `rate` Hz.

    Raises UserError for a file that cannot be read and for samples that are none, or without their rate.
    """
    if isinstance(audio, str | Path):
        from accomp.core.generation.stream import read_input

        if sample_rate is not None:
            raise UserError(f"sample_rate={sample_rate}: a file has one of its own; it is for samples")
        return read_input(Path(audio), rate)
    samples = checked_samples(audio)
    if not len(samples):
        raise UserError("there are no samples to play to")
    if sample_rate is None:
        raise UserError(f"samples need their rate: sample_rate={rate}, if it is that of the codec")
    from accomp.core.audio import io

    return io.resample(samples, positive("sample_rate", sample_rate), rate)


def checked_samples(audio: ArrayLike) -> NDArray[np.float32]:
    """Samples [N] as float32. Raises UserError for another shape or type, NaN and infinity."""
    try:
        samples = np.asarray(audio)
    except (TypeError, ValueError) as error:
        raise UserError(f"not an array of samples: {error}") from None
    if samples.dtype.kind != "f":
        raise UserError(f"samples are {samples.dtype}; expected float32 in [-1, 1]")
    if samples.ndim != 1:
        hint = "; average the channels: audio.mean(axis=0)" if samples.ndim == 2 else ""
        raise UserError(f"samples have shape {samples.shape}; expected [N], one channel{hint}")
    if not np.isfinite(samples).all():
        raise UserError("the samples hold NaN or infinity")
    return samples.astype(np.float32, copy=False)


def positive(name: str, value: int) -> int:
    if whole(name, value) < 1:
        raise UserError(f"{name}={value!r}; expected a positive whole number")
    return int(value)


def whole(name: str, value: int) -> int:
    """The value of an argument. Raises UserError for what is no whole number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise UserError(f"{name}={value!r}; expected a whole number")
    return int(value)
