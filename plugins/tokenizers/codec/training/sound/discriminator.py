"""Adversarial training with dac's discriminators: least-squares loss and feature matching."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from accomp.plugins.tokenizers.codec.networks.quantizer import quiet_import
from accomp.plugins.tokenizers.codec.training.sound.spec import SoundTrainSpec


class Adversary:
    """Discriminators and their optimizer; `judge` updates them and returns the losses of the codec."""

    def __init__(self, spec: SoundTrainSpec, rate: int, seed: int, device: torch.device):
        with quiet_import("adversarial training"), torch.random.fork_rng(devices=[]):
            from dac.model.discriminator import Discriminator

            torch.manual_seed(seed)
            self.discriminator = Discriminator(
                periods=list(spec.adversary_periods), fft_sizes=list(spec.adversary_windows), sample_rate=rate
            ).to(device)
        self.optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), lr=spec.adversary_lr, betas=(0.8, 0.99), fused=device.type == "cuda"
        )
        self.clip = 10.0
        self.half = spec.precision == "bfloat16"

    def judge(self, decoded: Tensor, original: Tensor, rate: float) -> dict[str, Tensor]:
        """Both [B, N]. One step of the discriminators at learning rate `rate`, then "fool" and "features".

        These are differentiable in `decoded`. One gain scales the peak of the original to 0.8 and is applied to both,
        so that level errors are visible; the gain is limited to that of a peak of -40 dB full scale.
        """
        scale = 0.8 / original.abs().amax(1, keepdim=True).clamp(min=0.01)
        fake, real = (decoded * scale)[:, None], (original * scale)[:, None]
        loss = torch.stack(
            [
                f[-1].float().square().mean() + (1 - r[-1].float()).square().mean()
                for f, r in zip(self._listen(fake.detach()), self._listen(real), strict=True)
            ]
        ).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.discriminator.requires_grad_(False)
        with torch.no_grad():
            wanted = self._listen(real)
        got = self._listen(fake)
        self.discriminator.requires_grad_(True)
        fool = torch.stack([(1 - f[-1].float()).square().mean() for f in got]).sum()
        features = [
            F.l1_loss(a.float(), b.float())
            for f, r in zip(got, wanted, strict=True)
            for a, b in zip(f[:-1], r[:-1], strict=True)
        ]
        return {"fool": fool, "features": torch.stack(features).sum(), "discriminator": loss.detach()}

    def _listen(self, sound: Tensor) -> list[list[Tensor]]:
        """sound [B, 1, N] -> feature maps of each discriminator, its output last.

        (dac's own forward would scale every sound to the same peak, the noise floor of silence included.)
        """
        with torch.autocast(sound.device.type, torch.bfloat16, enabled=self.half):
            return [discriminator(sound) for discriminator in self.discriminator.discriminators]

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
