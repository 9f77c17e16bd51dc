"""A faster implementation of a codec for live streams, and the history that a stream of either kind starts with."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from accomp.plugins.tokenizers.codec.streams.causal import FixedHistory, History


class LivePath(Protocol):
    """A faster, equivalent implementation of one direction for the few frames per push of a live stream."""

    def takes(self, batch: int, frames: int) -> bool:
        """Return True if this number of frames and rows is supported."""
        ...

    def begin(self, batch: int) -> FixedHistory:
        """Return the history of a new stream of `batch` rows: zeros for every layer with state."""
        ...

    def __call__(self, x: Tensor, history: FixedHistory, /) -> Tensor:
        """audio [B, T * hop] float64 -> codes [B, K, T] int64; or such codes -> audio [B, T * hop], `delay` late."""
        ...


def new_history(live: LivePath | None, batch: int) -> History:
    """Return an empty history of the kind required by `live`."""
    if live is None:
        return History()
    with torch.inference_mode(False):  # writable in and out of inference mode
        return live.begin(batch)
