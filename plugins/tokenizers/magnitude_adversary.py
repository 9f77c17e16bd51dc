"""A discriminator of log magnitudes: what keeps decoded spectra from the blur that a mean of possibilities has."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.magnitude_network import BINS, FLOOR

CHANNELS = 32
_LAYERS = (  # channels in and out, kernel and stride in sub-frames and bins
    (2, CHANNELS, (3, 9), (1, 4)),
    (CHANNELS, CHANNELS, (4, 5), (2, 2)),
    (CHANNELS, 2 * CHANNELS, (4, 5), (2, 2)),
    (2 * CHANNELS, 2 * CHANNELS, (3, 5), (1, 2)),
)


class PatchDiscriminator(nn.Module):
    """Log magnitudes [B, T, 4, 641] -> a verdict on every patch of about 60 ms by 3.5 kHz, and its feature maps.

    A second channel tells where on the frequency axis a patch lies.
    """

    place: Tensor

    def __init__(self) -> None:
        super().__init__()
        normed = nn.utils.parametrizations.weight_norm
        self.layers = nn.ModuleList(
            normed(nn.Conv2d(a, b, kernel, stride, (1, kernel[1] // 2))) for a, b, kernel, stride in _LAYERS
        )
        self.verdict = normed(nn.Conv2d(2 * CHANNELS, 1, 3, 1, 1))
        self.register_buffer("place", torch.linspace(-1, 1, BINS).expand(1, 1, 1, BINS), persistent=False)

    def forward(self, log_magnitudes: Tensor) -> list[Tensor]:
        """Feature maps, the verdict last."""
        h = (log_magnitudes.flatten(1, 2)[:, None] + 6) / 3
        h = torch.cat([h, self.place.expand(len(h), 1, h.shape[2], -1)], dim=1)
        found = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            found.append(h)
        return [*found, self.verdict(h)]


class MagnitudeAdversary:
    """The discriminator and its optimizer; `judge` lets it learn and returns what the codec is to minimise."""

    def __init__(self, seed: int, device: torch.device, *, half: bool):
        """`half`: convolutions in bfloat16."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.discriminator = PatchDiscriminator().to(device)
        self.optimizer = torch.optim.AdamW(self.discriminator.parameters(), lr=1e-4, betas=(0.5, 0.9), fused=True)
        self.half = half

    def judge(self, decoded: Tensor, magnitudes: Tensor, rate: float) -> dict[str, Tensor]:
        """Decoded log(|S| + 1e-5) and magnitudes, both [B, T, 4, 641]. Hinge loss, one step at learning rate `rate`.

        Returns "fool" and "features", which are differentiable in `decoded`, and "discriminator".
        """
        with torch.autocast(decoded.device.type, torch.bfloat16, enabled=self.half):
            original = (magnitudes + FLOOR).log()
            real, fake = self.discriminator(original), self.discriminator(decoded.detach())
            loss = F.relu(1 - real[-1].float()).mean() + F.relu(1 + fake[-1].float()).mean()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.discriminator.requires_grad_(False)
            with torch.no_grad():
                wanted = self.discriminator(original)
            got = self.discriminator(decoded)
            self.discriminator.requires_grad_(True)
        features = [_relative(a.float(), b.float()) for a, b in zip(got[:-1], wanted[:-1], strict=True)]
        fool = -got[-1].float().mean()
        return {"fool": fool, "features": torch.stack(features).mean(), "discriminator": loss.detach()}

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])


def _relative(got: Tensor, wanted: Tensor) -> Tensor:
    """Mean |difference| over mean |wanted|."""
    return (got - wanted).abs().mean() / wanted.abs().mean().clamp(min=1e-6)
