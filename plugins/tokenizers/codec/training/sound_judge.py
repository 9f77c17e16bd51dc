"""What training of decoded sound minimises: spectral distances, and the verdict of dac's discriminators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accomp.plugins.tokenizers.codec.training.discriminator import Adversary
from accomp.plugins.tokenizers.codec.training.losses import SpectralDistance
from accomp.plugins.tokenizers.codec.training.sound_spec import SoundTrainSpec


class SoundJudge:
    """The distances of decoded sound from the original and, while they take part, the discriminators."""

    def __init__(self, spec: SoundTrainSpec, rate: int, seed: int, device: torch.device, rng: torch.Generator):
        """`rng` says which part of the clips the discriminators hear."""
        self.spec, self.rate, self.rng = spec, rate, rng
        self.distance = SpectralDistance(rate, spec.windows).to(device)
        self.adversary = Adversary(spec, rate, seed, device) if spec.adversarial else None

    def parts(self) -> dict[str, Any]:
        """What a checkpoint must hold of it."""
        return {"adversary": self.adversary} if self.adversary else {}

    def __call__(
        self, decoded: Tensor, original: Tensor, done: float, cosine: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Both [B, N], at a progress of `done` -> what to minimise, and its parts. The discriminators learn a step.

        cosine: by how much their rate has fallen.
        """
        losses = self.distance(decoded, original)
        total = torch.stack([getattr(self.spec, name) * value for name, value in losses.items()]).sum()
        if self.adversary and done >= self.spec.adversary_from:
            losses |= self.adversary.judge(*self._part(decoded, original), self.spec.adversary_lr * cosine)
            total = total + self.spec.adversarial * (losses["fool"] + 2 * losses["features"])
        return total, losses

    def _part(self, decoded: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
        """What the discriminators hear of both [B, N]."""
        have, wanted = original.shape[1], round(self.spec.adversary_seconds * self.rate)
        if not 0 < wanted < have:
            return decoded, original
        start = int(torch.randint(have - wanted + 1, (), generator=self.rng))
        return decoded[:, start : start + wanted], original[:, start : start + wanted]
