"""Codebook training without collapse: PCA and k-means initialization, moving-average updates, revival of dead codes.

Training by gradient with the usual commitment loss collapsed to one code per level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from accomp.plugins.tokenizers.codec.networks.quantizer import nearest, project, restore

DECAY = 0.99


class CodebookTrainer:
    """Trainer of the levels of a dac ResidualVectorQuantize; its state is saved in checkpoints."""

    def __init__(self, levels: Sequence[Any], rng: torch.Generator, dead: float = 0.05):
        """`dead`: usage, relative to the average, below which a code is dead (moving averages)."""
        self.levels, self.rng, self.dead = list(levels), rng, dead
        self.totals = torch.stack([level.codebook.weight.detach().clone() for level in self.levels])
        self.counts = torch.ones_like(self.totals[..., 0])
        for level in self.levels:
            level.codebook.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, z: Tensor) -> list[float]:
        """Fit every level to latents z [n, E]; return the share of residual variance after each level.

        The level's projection takes the leading principal components of the residual and one constant: on the sphere
        where codes are looked up, the constant lets length as well as direction tell vectors apart.
        """
        whole = (z - z.mean(0)).square().sum()
        left = []
        for i, level in enumerate(self.levels):
            dims = level.codebook_dim - 1
            mean = z.mean(0)
            _, axes = torch.linalg.eigh(((z - mean).T @ (z - mean)).double())
            axes = axes.flip(1)[:, :dims].T.to(z)
            axes = F.pad(axes, (0, 0, 0, dims - len(axes)))
            radius = ((z - mean) @ axes.T).square().sum(1).mean().sqrt().clamp(min=1e-4)
            _set(level.in_proj, F.pad(axes, (0, 0, 0, 1)), torch.cat([-axes @ mean, radius[None]]))
            _set(level.out_proj, F.pad(axes, (0, 0, 0, 1)).T, mean)
            vectors = project(level, z)
            level.codebook.weight.copy_(sample(vectors, level.codebook_size, self.rng))
            for _ in range(20):
                code = nearest(level, vectors)
                count, total = sums(code, vectors, level.codebook_size)
                used = count > 0
                fresh = torch.where(used[:, None], total / count.clamp(min=1)[:, None], level.codebook.weight)
                fresh[~used] = sample(vectors, int((~used).sum()), self.rng)
                level.codebook.weight.copy_(fresh)
            code = nearest(level, vectors)
            self.counts[i] = torch.bincount(code, minlength=level.codebook_size) / len(z) * level.codebook_size
            self.totals[i] = level.codebook.weight * self.counts[i, :, None]
            z = z - restore(level, level.codebook(code))
            left.append(float((z.square().sum() / whole).item()))
        return left

    def quantize(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z [B, T, E] -> decoder input [B, T, E], loss of the quantizer (scalar) and codes [B, K, T].

        Gradients are straight-through. The loss has the distance of latents to their codes, relative to the variance of
        z, and that of the projections of each level to its residual, relative to the variance of the residual, since
        residuals of late levels are small. Codebooks are updated by the assigned vectors.
        """
        scale = z.detach().var().clamp(min=1e-8)
        rest, out, loss, codes = z.detach(), torch.zeros_like(z), z.new_zeros(()), []
        for i, level in enumerate(self.levels):
            vectors = project(level, rest)
            code = nearest(level, vectors.detach())
            self._follow(i, vectors.detach().flatten(0, 1), code.flatten())
            entry = level.codebook(code).detach()
            straight = restore(level, vectors + (entry - vectors).detach())
            loss = loss + 0.1 * (straight - rest).square().mean() / rest.var().clamp(min=1e-8)
            quantized = restore(level, entry)
            out = out + quantized
            rest = rest - quantized.detach()
            codes.append(code)
        commitment = (z - out.detach()).square().mean() / scale
        return out + (z - z.detach()), loss + 0.25 * commitment, torch.stack(codes, dim=1)

    @torch.no_grad()
    def _follow(self, i: int, vectors: Tensor, code: Tensor) -> None:
        level = self.levels[i]
        count, total = sums(code, vectors, level.codebook_size)
        share = level.codebook_size / len(vectors)
        self.counts[i].lerp_(count * share, 1 - DECAY)
        self.totals[i].lerp_(total * share, 1 - DECAY)
        level.codebook.weight.copy_(self.totals[i] / self.counts[i].clamp(min=1e-6)[:, None])

    @torch.no_grad()
    def revive(self, z: Tensor) -> int:
        """Move dead codes to latents of z [B, T, E]; return the number of dead codes."""
        rest, dead_codes = z.detach().flatten(0, 1), 0
        for i, level in enumerate(self.levels):
            vectors = project(level, rest)
            dead = self.counts[i] < self.dead
            n = min(int(dead.sum()), len(vectors))
            where = dead.nonzero()[:n, 0]
            self.counts[i, where] = 0.5
            self.totals[i, where] = 0.5 * sample(vectors, n, self.rng)
            level.codebook.weight[where] = self.totals[i, where] * 2
            dead_codes += n
            rest = rest - restore(level, level.codebook(nearest(level, vectors)))
        return dead_codes

    def state_dict(self) -> dict[str, Tensor]:
        return {"counts": self.counts, "totals": self.totals}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.counts, self.totals = state["counts"].to(self.counts.device), state["totals"].to(self.totals.device)


def sample(x: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """Draw n rows of x [m, d], without replacement if m >= n."""
    rounds = [torch.randperm(len(x), generator=rng) for _ in range(-(-n // len(x)))]
    order = torch.cat([torch.empty(0, dtype=torch.int64), *rounds])[:n]
    return x[order.to(x.device)]


def sums(code: Tensor, vectors: Tensor, size: int) -> tuple[Tensor, Tensor]:
    count = vectors.new_zeros(size).index_add_(0, code, vectors.new_ones(len(code)))  # bincount would wait for a GPU
    return count, vectors.new_zeros(size, vectors.shape[1]).index_add_(0, code, vectors)


def _set(conv: Any, matrix: Tensor, bias: Tensor) -> None:
    """Set the [out, in] matrix of a weight-normed convolution of kernel 1 (its v and g)."""
    conv.weight_v.copy_(matrix[..., None])
    conv.weight_v[matrix.square().sum(1) == 0] = 1.0
    conv.weight_g.copy_(matrix.norm(dim=1)[:, None, None])
    conv.bias.copy_(bias)
