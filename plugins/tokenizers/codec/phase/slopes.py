"""Phases of a frame by what is near: each bin goes on from the frame before, or follows the peak whose slope it is on.

Heap integration (see heap.py) without its order over all bins, by the same comparison: a phase is taken from where the
magnitude is largest. The rule is local, so a frame takes two passes, or a few vector operations (see peaks.py).
Peaks that take along their slopes are from single pass spectrum inversion (G. Beauregard, M. Harish, L. Wyse, Single
pass spectrogram inversion, IEEE DSP 2015).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accomp.plugins.tokenizers.codec.phase.machine import machine

Array = np.ndarray[Any, Any]


@machine
def climb(now: Array, before: Array, floor: float, across: Array, fall: Array, phase: Array) -> None:
    """Phases of the bins of `now` over the floor, into `phase`; all arrays as of heap.integrate.

    A bin takes its phase from the last frame if it is a peak, or was louder there than its louder neighbour is now;
    else from that neighbour. If no bin over the floor was over it before, all follow the loudest, which gets 0.
    """
    bins, heard = len(now), False
    for m in range(bins):
        heard = heard or (now[m] > floor and before[m] > floor)
    if not heard:
        return _follow_the_loudest(now, floor, fall, phase)
    for m in range(bins):  # those that take it from the last frame, or from below
        under, over = now[m - 1] if m else 0.0, now[m + 1] if m + 1 < bins else 0.0
        if now[m] > floor:
            if max(now[m], before[m]) >= max(under, over):
                phase[m] = across[m]
            elif under >= over:
                phase[m] = phase[m - 1] + 0.5 * (fall[m - 1] + fall[m])
    for m in range(bins - 2, -1, -1):
        under, over = now[m - 1] if m else 0.0, now[m + 1]
        if now[m] > floor and over > under and over > max(now[m], before[m]):
            phase[m] = phase[m + 1] - 0.5 * (fall[m + 1] + fall[m])
    return None


@machine
def _follow_the_loudest(now: Array, floor: float, fall: Array, phase: Array) -> None:
    loudest = np.argmax(now)
    along = 0.0
    for m in range(loudest, len(now)):
        if m > loudest:
            along += 0.5 * (fall[m - 1] + fall[m])
        if now[m] > floor:
            phase[m] = along
    along = 0.0
    for m in range(loudest - 1, -1, -1):
        along -= 0.5 * (fall[m + 1] + fall[m])
        if now[m] > floor:
            phase[m] = along
