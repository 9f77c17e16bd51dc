"""Training of ResidualCodebooks: k-means initialization, moving-average updates, revival of dead codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accomp.plugins.tokenizers.codec.training.codebooks import DECAY, sample, sums

ROUNDS = 10
"""Iterations of k-means per level."""


class ResidualTrainer:
    """Trainer of the levels; its state is saved in checkpoints."""

    def __init__(self, levels: Sequence[Any], rng: torch.Generator, dead: float):
        """`dead`: usage, relative to the average, below which a code is dead (moving averages)."""
        self.levels, self.rng, self.dead = list(levels), rng, dead
        self.fits = 0
        """Number of fits of all levels."""
        self.totals = [level.codebook.clone() for level in self.levels]
        self.counts = torch.stack([torch.ones_like(totals[:, 0]) for totals in self.totals])

    @torch.no_grad()
    def fit(self, z: Tensor, first: int = 0) -> list[float]:
        """Fit every level to latents z [n, E] by k-means; return the share of residual variance after each level.

        The `first` so many levels stay as they are.
        """
        self.fits += not first
        whole = (z - z.mean(0)).square().sum()
        left = []
        for i, level in enumerate(self.levels):
            book, seen = level.codebook, z[:, : level.width]
            if i >= first:
                self._means(level, seen)
            code = level.nearest(seen)
            self.counts[i] = sums(code, seen, len(book))[0] / len(z) * len(book)
            self.totals[i] = book * self.counts[i, :, None]
            z = level.rest(z, code)
            left.append(float(z.square().sum() / whole))
        return left

    def _means(self, level: Any, z: Tensor) -> None:
        book = level.codebook
        book.copy_(sample(z, len(book), self.rng))
        for _ in range(ROUNDS):
            count, total = sums(level.nearest(z), z, len(book))
            used = count > 0
            book[used] = total[used] / count[used, None]
            book[~used] = sample(z, int((~used).sum()), self.rng)

    @torch.no_grad()
    def quantize(self, z: Tensor, *, revive: bool = False) -> Tensor:
        """z [B, T, E] -> sums of the first 1 .. K levels [K, B, T, E]; updates the codebooks.

        `revive` moves dead codes to vectors of the residual of their level.
        """
        rest = z.flatten(0, 1)
        found = []
        for i, level in enumerate(self.levels):
            code = level.nearest(rest)
            left = level.rest(rest, code)
            self._follow(i, rest[:, : level.width], code, revive)
            rest = left
            found.append(z - rest.view_as(z))
        return torch.stack(found)

    def _follow(self, i: int, rest: Tensor, code: Tensor, revive: bool) -> None:
        book = self.levels[i].codebook
        count, total = sums(code, rest, len(book))
        share = len(book) / len(rest)
        self.counts[i].lerp_(count * share, 1 - DECAY)
        self.totals[i].lerp_(total * share, 1 - DECAY)
        if revive:
            dead = (self.counts[i] < self.dead).nonzero()[: len(rest), 0]
            self.counts[i, dead] = 0.5
            self.totals[i][dead] = 0.5 * sample(rest, len(dead), self.rng)
        book.copy_(self.totals[i] / self.counts[i].clamp(min=1e-6)[:, None])

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts, "totals": self.totals, "fits": torch.tensor(self.fits)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts = state["counts"].to(self.counts.device)
        self.totals = [totals.to(self.counts.device) for totals in state["totals"]]
        self.fits = int(state["fits"])
