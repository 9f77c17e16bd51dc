"""dac's discriminators as a training partner: least-squares adversarial loss and feature matching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from accomp.plugins.tokenizers.quantizer import quiet_import

if TYPE_CHECKING:
    from accomp.plugins.tokenizers.trainer import CodecTrainSpec


class Adversary:
    """Discriminators and their optimizer; `judge` lets them learn and returns what the codec is to minimise."""

    def __init__(self, spec: CodecTrainSpec, rate: int, seed: int, device: torch.device):
        with quiet_import("adversarial training"), torch.random.fork_rng(devices=[]):
            from dac.model.discriminator import Discriminator

            torch.manual_seed(seed)
            self.discriminator = Discriminator(
                periods=list(spec.adversary_periods), fft_sizes=list(spec.adversary_windows), sample_rate=rate
            ).to(device)
        self.optimizer = torch.optim.AdamW(self.discriminator.parameters(), lr=1e-4, betas=(0.8, 0.99))
        self.clip = 10.0

    def judge(self, decoded: Tensor, original: Tensor) -> dict[str, Tensor]:
        """Both [B, N]. One step of the discriminators, then "fool" and "features", differentiable in `decoded`."""
        fake, real = decoded[:, None], original[:, None]
        loss = sum(
            f[-1].square().mean() + (1 - r[-1]).square().mean()
            for f, r in zip(self.discriminator(fake.detach()), self.discriminator(real), strict=True)
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.clip)
        self.optimizer.step()
        with torch.no_grad():
            wanted = self.discriminator(real)
        got = self.discriminator(fake)
        fool = torch.stack([(1 - f[-1]).square().mean() for f in got]).sum()
        features = [
            F.l1_loss(a, b) for f, r in zip(got, wanted, strict=True) for a, b in zip(f[:-1], r[:-1], strict=True)
        ]
        return {"fool": fool, "features": torch.stack(features).sum(), "discriminator": loss.detach()}

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
