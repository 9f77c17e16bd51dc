"""Losses on decoded audio: spectral distances and dac's discriminators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accomp.plugins.tokenizers.codec.training.sound.discriminator import Adversary
from accomp.plugins.tokenizers.codec.training.sound.spec import SoundTrainSpec
from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import SpectralDistance


class SoundJudge:
    """Distances of decoded from original audio and, when active, the discriminators."""

    def __init__(self, spec: SoundTrainSpec, rate: int, seed: int, device: torch.device, rng: torch.Generator):
        """`rng` draws the part of the clips for the discriminators."""
        self.spec, self.rate, self.rng = spec, rate, rng
        self.distance = SpectralDistance(rate, spec.windows).to(device)
        self.adversary = Adversary(spec, rate, seed, device) if spec.adversarial else None

    def parts(self) -> dict[str, Any]:
        """Return the state for checkpoints."""
        return {"adversary": self.adversary} if self.adversary else {}

    def __call__(
        self, decoded: Tensor, original: Tensor, done: float, cosine: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Both [B, N], at progress `done` -> total loss and its parts. Updates the discriminators.

        cosine: decay factor of their learning rate.
        """
        losses = self.distance(decoded, original)
        total = torch.stack([getattr(self.spec, name) * value for name, value in losses.items()]).sum()
        if self.adversary and done >= self.spec.adversary_from:
            losses |= self.adversary.judge(*self._part(decoded, original), self.spec.adversary_lr * cosine)
            total = total + self.spec.adversarial * (losses["fool"] + 2 * losses["features"])
        return total, losses

    def _part(self, decoded: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
        """Return the part of both [B, N] for the discriminators."""
        have, wanted = original.shape[1], round(self.spec.adversary_seconds * self.rate)
        if not 0 < wanted < have:
            return decoded, original
        start = int(torch.randint(have - wanted + 1, (), generator=self.rng))
        return decoded[:, start : start + wanted], original[:, start : start + wanted]
