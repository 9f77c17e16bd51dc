"""Residual vector quantization by Euclidean distance, in all dimensions of the latents or the first ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.streams.causal import History


class Codebook(nn.Module):
    """One level: `codebook` [C, W], which stands for the first W of the latents."""

    codebook: Tensor

    def __init__(self, size: int, width: int):
        super().__init__()
        self.register_buffer("codebook", torch.randn(size, width))

    @property
    def width(self) -> int:
        """W."""
        return self.codebook.shape[1]

    def scores(self, z: Tensor) -> Tensor:
        """z [..., E] -> [..., C]: z . b - |b|^2 / 2 in the first W, largest for the nearest b."""
        book = self.codebook.to(z)
        return z[..., : self.width] @ book.T - book.square().sum(1) / 2

    def nearest(self, z: Tensor) -> Tensor:
        """z [..., E] -> codes [...] int64."""
        return self.scores(z).argmax(-1)

    def rest(self, z: Tensor, code: Tensor) -> Tensor:
        """z [..., E] less what its codes [...] stand for."""
        return torch.cat([z[..., : self.width] - self.codebook.to(z)[code], z[..., self.width :]], dim=-1)


class ResidualCodebooks(nn.Module):
    """K levels; each quantizes the residual of the previous ones, without learnt projections.

    Leading levels of a file work as a codec by themselves.
    """

    def __init__(self, widths: Sequence[int], size: int, latent: int):
        """`widths`: of each level; latents have the size `latent` whichever levels there are."""
        super().__init__()
        self.latent = latent
        self.quantizers = nn.ModuleList(Codebook(size, width) for width in widths)

    @property
    def levels(self) -> list[Any]:
        return list(self.quantizers)

    @property
    def fitted(self) -> int:
        """Number of levels before the first that is yet to be fitted, whose codebook is NaN."""
        levels = self.levels
        return next((i for i, level in enumerate(levels) if level.codebook.isnan().any()), len(levels))

    def codes(self, z: Tensor, stay: float = 0.0, history: History | None = None, first: int | None = None) -> Tensor:
        """z [B, T, E] -> codes [B, K, T] int64, or of the `first` so many levels.

        With `stay` a level keeps the previous code if its squared distance is at most 1 + stay times that of the
        nearest, so that sustained sounds keep their codes. `history` has the newest codes.
        """
        levels = self.levels[:first]
        if not stay:
            return self._nearest(z)[:, : len(levels)]
        history = History() if history is None else history
        last = history.of(self, lambda: torch.zeros(len(z), len(levels), dtype=torch.int64, device=z.device))
        codes = torch.empty(len(z), len(levels), z.shape[1], dtype=torch.int64, device=z.device)
        for t, frame in enumerate(z.unbind(1)):
            last.copy_(self._staying(frame, last, stay))
            codes[:, :, t] = last - 1
        return codes

    def _nearest(self, z: Tensor) -> Tensor:
        codes = []
        for level in self.levels:
            codes.append(level.nearest(z))
            z = level.rest(z, codes[-1])
        return torch.stack(codes, dim=1)

    def _staying(self, z: Tensor, last: Tensor, stay: float) -> Tensor:
        """z [B, E], previous codes plus 1 [B, K] (0: none) -> codes plus 1 [B, K]."""
        found = []
        for level, before in zip(self.levels[: last.shape[1]], last.unbind(1), strict=True):
            scores = level.scores(z)
            length = z[:, : level.width].square().sum(1, keepdim=True)
            nearest = scores.argmax(1, keepdim=True)
            kept = (before - 1).clamp(min=0)[:, None]
            near = (length - 2 * scores.gather(1, kept)) <= (1 + stay) * (length - 2 * scores.gather(1, nearest))
            code = torch.where(near & (before > 0)[:, None], kept, nearest)[:, 0]
            z = level.rest(z, code)
            found.append(code + 1)
        return torch.stack(found, dim=1)

    def embed(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] of the first K levels -> latents [B, T, E] float32, the sum over levels."""
        z = torch.zeros(len(codes), codes.shape[2], self.latent, device=codes.device)
        for level, code in zip(self.levels[: codes.shape[1]], codes.unbind(1), strict=True):
            z[..., : level.width] += level.codebook[code]
        return z
