"""Mixes of a song's layers: as input of the model, and for listening."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from accomp.core.audio.loudness import mix_for_listening, normalise


def model_mix(parts: Iterable[np.ndarray], *, stems: int) -> np.ndarray:
    """Mix for the model: the mean of all stems, as in training, at their own levels.

        x = (M c + s_1 + ... + s_d) / (M + d)

    parts: c, itself the mean of M = `stems` stems, then s_1 ... s_d, all [N]. Parts within full scale have a mean
    within full scale.
    """
    context, *layers = parts
    whole = stems * context
    for layer in layers:
        whole = whole + layer
    return (whole / (stems + len(layers))).astype(np.float32)


def listening_mix(parts: Iterable[np.ndarray], rate: int, *, stems: int) -> np.ndarray:
    """Mix for listening: each stem as loud as one of the `stems` stems of the context, the whole at LISTENING_LUFS.

    `parts` as in `model_mix`. Layers are added in turn by `mix_for_listening`; silent ones stay silent, and no peak is
    above 0.99.
    """
    context, *layers = parts
    mix = normalise(context, rate)
    for number, layer in enumerate(layers, stems):
        mix = mix_for_listening(mix, layer, rate, stems=number, above_db=0.0)
    return mix
