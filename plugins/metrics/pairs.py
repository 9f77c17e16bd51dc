"""Validation of takes for metrics that compare context and stem."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from accomp.core.audio.loudness import silent
from accomp.core.errors import EmptyClip
from accomp.core.types import Take


def check_pair(take: Take, known: Container[str], rate: int, needs: str) -> None:
    """Raise EmptyClip for a silent context or stem.

    Raises ValueError for a take that is `known`, a rate other than `rate`, NaN, or under 1 s, a message that `needs`
    completes.
    """
    if take.id in known:
        raise ValueError(f"take '{take.id}' was given twice")
    if take.sample_rate != rate:
        raise ValueError(f"take '{take.id}' has {take.sample_rate} Hz; expected {rate} Hz")
    for name, audio in (("context", take.context), ("stem", take.stem)):
        if len(audio) < rate:
            raise ValueError(f"the {name} lasts {len(audio) / rate:.2f} s; {needs} a second or more")
        if not np.isfinite(audio).all():
            raise ValueError(f"the {name} holds NaN or Inf")
        if silent(audio):
            raise EmptyClip(f"the {name} is silent")
