"""What training of decoded sound minimises: spectral distances, and the verdict of dac's discriminators."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.plugins.tokenizers.adversary import Adversary
from accomp.plugins.tokenizers.losses import WINDOWS, SpectralDistance
from accomp.plugins.tokenizers.trainer import CodecTrainSpec, share


@frozen(kw_only=True)
class SoundTrainSpec(CodecTrainSpec):
    """[train] of what is judged by its sound; precision "bfloat16" is tf32 with discriminators in bfloat16.

    Attributes:
        log, linear, energy, low: weights of the distances of SpectralDistance.
        windows: of the distances (samples); 1024 and 2048 must be among them.
        adversarial: weight of dac's discriminators; 0 leaves them out. They multiply the time of a step: for a GPU.
        adversary_periods, adversary_windows: periods and STFT windows (samples) of the discriminators.
        adversary_from: share of the training after which the discriminators join.
        adversary_lr: their rate, which falls with the codec's.
        adversary_seconds: how much of every clip they hear, at a random place; 0: all of it.
    """

    log: float = field(default=1.0, validator=v.ge(0.0))
    linear: float = field(default=1.0, validator=v.ge(0.0))
    energy: float = field(default=0.5, validator=v.ge(0.0))
    low: float = field(default=0.5, validator=v.ge(0.0))
    windows: tuple[int, ...] = field(default=WINDOWS)
    adversarial: float = field(default=0.0, validator=v.ge(0.0))
    adversary_periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    adversary_windows: tuple[int, ...] = (2048, 1024, 512)
    adversary_from: float = field(default=0.0, validator=share)
    adversary_lr: float = field(default=1e-4, validator=v.gt(0.0))
    adversary_seconds: float = field(default=0.0, validator=v.ge(0.0))

    @windows.validator
    def _complete(self, attribute: attrs.Attribute, value: tuple[int, ...]) -> None:
        if not {1024, 2048} <= set(value):
            raise ValueError(f"windows {list(value)}; 1024 and 2048 must be among them")


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
