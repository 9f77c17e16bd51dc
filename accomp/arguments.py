"""Checks of what the face is given: samples and numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accomp.core.errors import UserError


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
