"""Residual vector quantization by Euclidean distance, in all dimensions of the latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.streams.causal import History


class Codebook(nn.Module):
    """One level: `codebook` [C, E]."""

    codebook: Tensor

    def __init__(self, size: int, latent: int):
        super().__init__()
        self.register_buffer("codebook", torch.randn(size, latent))

    def scores(self, z: Tensor) -> Tensor:
        """z [..., E] -> [..., C]: z . b - |b|^2 / 2, largest for the nearest b."""
        book = self.codebook.to(z)
        return z @ book.T - book.square().sum(1) / 2

    def nearest(self, z: Tensor) -> Tensor:
        """z [..., E] -> codes [...] int64."""
        return self.scores(z).argmax(-1)


class ResidualCodebooks(nn.Module):
    """K levels; each quantizes the residual of the previous ones, without learnt projections.

    Leading levels of a file work as a codec by themselves.
    """

    def __init__(self, latent: int, codebooks: int, size: int):
        super().__init__()
        self.quantizers = nn.ModuleList(Codebook(size, latent) for _ in range(codebooks))

    @property
    def levels(self) -> list[Any]:
        return list(self.quantizers)

    def codes(self, z: Tensor, stay: float = 0.0, history: History | None = None) -> Tensor:
        """z [B, T, E] -> codes [B, K, T] int64.

        With `stay` a level keeps the previous code if its squared distance is at most 1 + stay times that of the
        nearest, so that sustained sounds keep their codes. `history` has the newest codes.
        """
        if not stay:
            return self._nearest(z)
        history = History() if history is None else history
        last = history.of(self, lambda: torch.zeros(len(z), len(self.levels), dtype=torch.int64, device=z.device))
        codes = torch.empty(len(z), len(self.levels), z.shape[1], dtype=torch.int64, device=z.device)
        for t, frame in enumerate(z.unbind(1)):
            last.copy_(self._staying(frame, last, stay))
            codes[:, :, t] = last - 1
        return codes

    def _nearest(self, z: Tensor) -> Tensor:
        codes = []
        for level in self.levels:
            codes.append(level.nearest(z))
            z = z - level.codebook.to(z)[codes[-1]]
        return torch.stack(codes, dim=1)

    def _staying(self, z: Tensor, last: Tensor, stay: float) -> Tensor:
        """z [B, E], previous codes plus 1 [B, K] (0: none) -> codes plus 1 [B, K]."""
        found = []
        for level, before in zip(self.levels, last.unbind(1), strict=True):
            scores = level.scores(z)
            length = z.square().sum(1, keepdim=True)
            nearest = scores.argmax(1, keepdim=True)
            kept = (before - 1).clamp(min=0)[:, None]
            near = (length - 2 * scores.gather(1, kept)) <= (1 + stay) * (length - 2 * scores.gather(1, nearest))
            code = torch.where(near & (before > 0)[:, None], kept, nearest)[:, 0]
            z = z - level.codebook.to(z)[code]
            found.append(code + 1)
        return torch.stack(found, dim=1)

    def embed(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] -> latents [B, T, E] float32, the sum over levels."""
        levels = zip(self.levels, codes.unbind(1), strict=True)
        return torch.stack([level.codebook[code].float() for level, code in levels]).sum(0)
