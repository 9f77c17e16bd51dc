"""Playing of a recording twice, frame by frame and in blocks of odd sizes: the music must be the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any

import numpy as np

from accomp.core.data.excerpts import keyed
from accomp.core.runs.player import Player
from accomp.core.runs.run import Played, perform, play

TOLERANCE = 1e-4
"""Tolerance of the audio between different block sizes of the input; codes must be equal."""


def play_checked(player: Player, sound: np.ndarray, options: Mapping[str, Any], id: str) -> tuple[Played, bool | None]:
    """Play to `sound`; for a model with a clock also check that block sizes of the input do not matter.

    options: the keyword arguments of `perform`. id: of the excerpt; it decides the block sizes.
    Returns what was played, and whether both are equal; None for a model without a clock.
    """
    if not player.clocked:
        return perform(player, sound, **options), None
    hop = player.tokenizer.space.hop
    live = play(player, sound, repeat(hop), **options)
    again = play(player, sound, _odd_pieces(len(sound), hop, keyed(options["seed"], "pieces", id)), **options)
    return live, _same(live, again)


def _odd_pieces(samples: int, hop: int, rng: np.random.Generator) -> Iterator[int]:
    """Blocks of random size, zero to four frames, for the first half of the clip; then the rest at once."""
    given = 0
    while given < samples // 2:
        size = int(rng.integers(0, 4 * hop + 1))
        given += size
        yield size


def _same(live: Played, again: Played) -> bool:
    equal = np.array_equal(live.codes, again.codes)
    return equal and bool(np.abs(live.audio - again.audio).max(initial=0.0) <= TOLERANCE)
