"""Players of the originals and of what the codecs make of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accomp.plugin.pages import (
    AXES,
    RANGE,
    SPREAD,
    Html,
    difference_data,
    folded_after,
    lossless_data,
    player,
    player_grid,
    spectrogram_data,
    tag,
)
from accomp.plugin.sound import LISTENING_LUFS, resample
from accomp.plugins.tokenizers.codec.quality.comparison import DecodedStretch

SHOWN = 3
"""Excerpts that are not folded."""


def listening(heard: Sequence[DecodedStretch]) -> list[Html]:
    if not heard:
        return []
    intro = (
        f"Lossless. The original is set to {LISTENING_LUFS:g} LUFS (or as far as no peak clips), the decoded by the "
        f"same gain, so levels compare. Spectrograms: {AXES}. "
        f"Below, the difference from the original: red is louder, blue softer, by {SPREAD:g} dB or more at the ends of "
        f"the scale; what lies more than {RANGE:g} dB down counts as equally soft."
    )
    return [*folded_after(SHOWN, [_pair(one.for_listening()) for one in heard], "excerpt"),
            tag("p", intro, class_="note")]  # fmt: skip


def _pair(heard: DecodedStretch) -> Html:
    sounds = {"Original": heard.original, **heard.decoded}
    return tag(
        "article",
        tag("h3", heard.group, tag("small", f"{heard.name} · from {heard.start:.1f} s")),
        player_grid([_player(label, *sound, heard) for label, sound in sounds.items()]),
        class_="card take",
    )


def _player(label: str, sound: np.ndarray, rate: int, heard: DecodedStretch) -> Html:
    about = f"{label}, {heard.group}, {heard.name}"
    made = label != "Original"
    difference = _difference(sound, rate, heard) if made else None
    picture = spectrogram_data(sound, rate)
    return player(label, lossless_data(sound, rate), about=about, picture=picture, difference=difference, made=made)


def _difference(sound: np.ndarray, rate: int, heard: DecodedStretch) -> str:
    original, common = heard.original
    same = resample(sound, rate, common)
    n = min(len(same), len(original))
    return difference_data(same[:n], original[:n], common)
