"""How the layers of a song are added up: for the model that plays the next one, and for people who listen."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from accomp.core.audio.loudness import mix_for_listening, normalise


def heard(parts: Iterable[np.ndarray], *, stems: int) -> np.ndarray:
    """What the model hears: the mean of all stems, as its training mixtures are made, at the levels they have.

        x = (M c + s_1 + ... + s_d) / (M + d)

    parts: c, itself the mean of M = `stems` stems, then s_1 ... s_d, all [N]. No part louder than full scale makes a
    mean that is.
    """
    context, *layers = parts
    whole = stems * context
    for layer in layers:
        whole = whole + layer
    return (whole / (stems + len(layers))).astype(np.float32)


def listened(parts: Iterable[np.ndarray], rate: int, *, stems: int) -> np.ndarray:
    """What people hear: each stem as loud as one of the `stems` stems of the context, the whole at LISTENING_LUFS.

    `parts` as in `heard`. Layer after layer is added by `mix_for_listening`; silent ones stay silent, and no peak is
    above 0.99.
    """
    context, *layers = parts
    mix = normalise(context, rate)
    for number, layer in enumerate(layers, stems):
        mix = mix_for_listening(mix, layer, rate, stems=number, above_db=0.0)
    return mix
