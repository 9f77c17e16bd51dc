"""Discrimination of matching and non-matching pairs: AUC with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from accomp.plugins.metrics.coherence.hpss_mels import FRAMES, HOP, MODES, STEP, below_own_maximum, masked
from accomp.plugins.metrics.coherence.network import CoherenceNetwork
from accomp.plugins.metrics.coherence.songs import Stretch

_SHIFTS = (-400, -300, -200, -100, 100, 200, 300, 400)
"""Shifts of a stem within its song, in frames (10 ms)."""
_SOUNDING = 0.5


def auc(true: np.ndarray, other: np.ndarray) -> float:
    """Return the area under the ROC curve: the probability that a true pair scores higher, ties counting half."""
    below = np.searchsorted(np.sort(other), true, side="left")
    up_to = np.searchsorted(np.sort(other), true, side="right")
    return float((below + up_to).mean() / 2 / len(other))


def song_interval(
    true: np.ndarray, other: np.ndarray, songs: Sequence[str], seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of `auc`, where true[i] and other[i] belong to a context of songs[i].

    Songs are resampled with all their pairs, since pairs of one song are not independent.
    """
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(np.array(songs) == song) for song in sorted(set(songs))]
    found = []
    for picks in rng.integers(len(rows), size=(draws, len(rows))):
        drawn = np.concatenate([rows[pick] for pick in picks])
        found.append(auc(true[drawn], other[drawn]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def held_out(
    network: CoherenceNetwork, stretches: Sequence[Stretch], seed: int, most: int = 400, modes: Sequence[str] = MODES
) -> dict[str, float]:
    """Return the AUC of up to `most` windows of held-out songs by mode: `random` (against a stem of the same class in
    another song) and `shifted` (against the same stem 1 to 4 s off). All other stems are the context. Chance level is
    0.5.

    Empty where no two songs have a class in common.
    """
    rng = np.random.default_rng(seed)
    rows = [row for one in stretches for row in _windows(one)]
    found: list[tuple[np.ndarray, ...]] = []
    for stretch, stem, start in [rows[i] for i in rng.permutation(len(rows))[:most]]:
        others = [
            row for row in rows if row[0].song != stretch.song and row[0].classes[row[1]] == stretch.classes[stem]
        ]
        last = stretch.stems.shape[-1] - FRAMES
        moved = [start + shift for shift in _SHIFTS if 0 <= start + shift <= last]
        if others and moved:
            other = others[rng.integers(len(others))]
            cut = [(stretch.others, stem, start), (stretch.stems, stem, start)]
            cut += [(other[0].stems, other[1], other[2]), (stretch.stems, stem, moved[rng.integers(len(moved))])]
            found.append(tuple(below_own_maximum(levels[i][..., s : s + FRAMES]) for levels, i, s in cut))
    if not found:
        return {}
    numbers = {"windows": float(len(found))}
    for mode in modes:
        context, true, random, shifted = (
            _embedded(network.embed, masked(np.stack(side), mode)) for side in zip(*found, strict=True)
        )
        with torch.inference_mode():
            own, wrong, late = (network.pair(context, stem).numpy() for stem in (true, random, shifted))
        name = "" if mode == "both" else f"_{mode}"
        numbers |= {f"random{name}": auc(own, wrong), f"shifted{name}": auc(own, late)}
    return numbers


def _windows(stretch: Stretch) -> list[tuple[Stretch, int, int]]:
    """(stretch, stem, first frame) of windows with audible stem and context."""
    starts = range(0, stretch.stems.shape[-1] - FRAMES + 1, STEP // HOP)
    return [
        (stretch, stem, start)
        for stem in range(len(stretch.classes))
        for start in starts
        if stretch.sounding[stem, start // 2 : (start + FRAMES) // 2].mean() >= _SOUNDING
    ]


def _embedded(embed: Callable[[Tensor], Tensor], heard: np.ndarray, batch: int = 64) -> Tensor:
    with torch.inference_mode():
        return torch.cat([embed(torch.from_numpy(heard[i : i + batch])) for i in range(0, len(heard), batch)])
