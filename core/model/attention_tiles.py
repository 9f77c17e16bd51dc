"""Attention patterns by tiles: which squares of rows and columns a kernel skips, computes whole, or masks.

For torch's flex_attention, on a GPU: no mask of rows by columns is stored or read, and tiles that no row attends to are
not computed.
"""

from __future__ import annotations

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from accomp.core.types import AttentionPattern, Rule

TILE = 128
"""Rows and columns of a tile: torch's default, and the largest that its kernels share."""


@torch.no_grad()
def tiled(pattern: AttentionPattern) -> AttentionPattern:
    """Return the pattern with its tiles as `blocks`. Keep it out of compiled code: the tiles depend on values.

    Memory: B x 128 x S bytes at a time.
    """
    rule, length = pattern.rule, pattern.position.shape[1]
    some, whole = (torch.stack(rows, dim=1)[:, None] for rows in zip(*_rows_of_tiles(pattern, rule), strict=True))

    def mask(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return rule(b, i, j)

    blocks = BlockMask.from_kv_blocks(
        *_listed(some & ~whole), *_listed(whole), BLOCK_SIZE=TILE, mask_mod=mask, seq_lengths=(length, length)
    )
    return attrs.evolve(pattern, blocks=blocks)


def _rows_of_tiles(pattern: AttentionPattern, rule: Rule) -> list[tuple[Tensor, Tensor]]:
    """For each row of tiles: those in which some row attends to some column [B, n], and those where all do to all."""
    batch, length = pattern.position.shape
    items, numbers = (torch.arange(size, device=pattern.position.device) for size in (batch, length))
    missing = -length % TILE  # as torch has it, a tile that reaches beyond the end is never whole
    found = []
    for rows in numbers.split(TILE):
        seen = rule(items[:, None, None], rows[:, None], numbers).expand(batch, len(rows), length)
        seen = F.pad(seen, (0, missing, 0, TILE - len(rows))).unflatten(2, (-1, TILE))
        found.append((seen.any(1).any(2), seen.all(1).all(2)))
    return found


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Tiles [..., n] bool -> how many there are [...], and their numbers, first in each row [..., n], both int32."""
    numbers = tiles.int().argsort(dim=-1, descending=True, stable=True)
    return tiles.sum(-1, dtype=torch.int32), numbers.int()
