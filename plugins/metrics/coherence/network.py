"""The network of the metric `coherence`: a frame-wise encoder with a bilinear score."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accomp.plugins.metrics.coherence.hpss_mels import FLOOR, MELS

WIDTH, EMBEDDING = 80, 64
POOLED = 2
"""Feature frames (10 ms) averaged at the input."""
_DILATIONS = (1, 2, 4)


class CoherenceNetwork(nn.Module):
    """score(a, b) = mean over t of e_t(a)^T W e_t(b): a bilinear form, with a vector for each 80 ms of both sides.

    One encoder serves both; W [D, D] is not symmetric: a is the context, b the stem. Vectors are compared at the same
    time only, so the score is sensitive to delays; an encoder that averages over the window first would lose the
    timing. 0.1 M parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Sequential(
            nn.Conv1d(2 * MELS, WIDTH, 4, 2, 1), nn.BatchNorm1d(WIDTH), nn.SiLU(), nn.Conv1d(WIDTH, WIDTH, 4, 2, 1)
        )
        self.blocks = nn.Sequential(*(_Block(WIDTH, dilation) for dilation in _DILATIONS))
        self.outward = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, EMBEDDING), nn.LayerNorm(EMBEDDING))
        self.w = nn.Parameter(0.2 * torch.eye(EMBEDDING))

    def embed(self, features: Tensor) -> Tensor:
        """features [B, 2, MELS, T] (dB) -> [B, about T / 8, D] in (-1, 1)."""
        return self.embed_pooled(nn.functional.avg_pool2d(features, (1, POOLED)))

    def embed_pooled(self, features: Tensor) -> Tensor:
        """Embed features already averaged in pairs of frames, [B, 2, MELS, T // 2]."""
        scaled = (features.flatten(1, 2) - FLOOR / 2) / -(FLOOR / 4)
        return torch.tanh(self.outward(self.blocks(self.inward(scaled)).transpose(1, 2)))

    def scores(self, contexts: Tensor, stems: Tensor) -> Tensor:
        """contexts [A, T, D], stems [B, T, D] (from `embed`) -> score of every pair [A, B]."""
        return (contexts @ self.w).flatten(1) @ stems.flatten(1).T / contexts.shape[1]

    def pair(self, context: Tensor, stem: Tensor) -> Tensor:
        """context, stem [B, T, D] (from `embed`) -> [B], the score of each with its own."""
        return ((context @ self.w) * stem).sum(-1).mean(-1)


class _Block(nn.Module):
    """Residual dilated convolution over h [B, C, T], with neighbours up to 3 `dilation` frames away."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.along = nn.Conv1d(width, width, 7, padding=3 * dilation, dilation=dilation, groups=width)
        self.norm = nn.LayerNorm(width)
        self.across = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Dropout(0.1), nn.Linear(2 * width, width)
        )

    def forward(self, h: Tensor) -> Tensor:
        added: Tensor = self.across(self.norm(self.along(h).transpose(1, 2)))
        return h + added.transpose(1, 2)
