"""Attention masks of the two regimes in which the past output is encoded once.

A window is n blocks of context and one block that is denoised, the target, each of `o` frames. In both regimes rows of
the context depend on neither the target's noise nor its level, so that their keys and values can be cached.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accomp.core.diffusion.kinds import Regime


def stream_sees(blocks: int, window: int) -> Tensor:
    """[blocks, blocks] bool: block b of a stream attends to blocks b - window + 1..b."""
    b = torch.arange(blocks)
    return (b <= b[:, None]) & (b > b[:, None] - window)


def window_sees(regime: Regime, o: int, n: int, *, token: bool = False) -> Tensor:
    """[rows, rows] bool, row attends to column, of a window of n context blocks and the target, n o + o rows.

    `token`: one more row at the end, which belongs to the target, for networks with the noise level in a row of its
    own. "enc_dec": context attends to all context, the target to everything. "block_causal": a block attends to itself
    and the n - 1 before it, so that the target does not attend to the oldest one.
    """
    block = torch.arange((n + 1) * o + token).div(o, rounding_mode="floor").clamp(max=n)
    if regime == "enc_dec":
        return (block < n) | (block == n)[:, None]
    return stream_sees(n + 1, n)[block][:, block]


def rows_see(blocks: Tensor, sees: Tensor) -> Tensor:
    """Expand a mask of blocks to rows: block of each row [S] int64, sees [n, n] bool -> [S, S] bool."""
    return sees[blocks][:, blocks]
