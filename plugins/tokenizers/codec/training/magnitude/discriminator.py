"""A discriminator of mel magnitudes: what keeps decoded spectra from the blur that a mean of possibilities has."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.networks.magnitude_network import BINS, SAMPLE_RATE, magnitudes_of
from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import mel_filters

BANDS = 96
FLOOR = 1e-4
"""Added to a band's magnitude before its logarithm is taken."""
CHANNELS = 32
_LAYERS = (  # channels in and out, kernel, stride and padding in sub-frames and bands
    (2, CHANNELS, (3, 7), (1, 2), (1, 3)),
    (CHANNELS, 2 * CHANNELS, (4, 4), (2, 2), (1, 1)),
    (2 * CHANNELS, 2 * CHANNELS, (4, 4), (2, 2), (1, 1)),
    (2 * CHANNELS, 2 * CHANNELS, (3, 3), (1, 1), (1, 1)),
)


class PatchDiscriminator(nn.Module):
    """Magnitudes [B, T, 4, 641] -> a verdict on every patch of about 100 ms by 60 bands, and its feature maps.

    It sees logarithms of mel bands, and in a second channel where on the mel scale a patch lies.
    """

    place: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        normed = nn.utils.parametrizations.weight_norm
        self.layers = nn.ModuleList(normed(nn.Conv2d(*layer)) for layer in _LAYERS)
        self.verdict = normed(nn.Conv2d(2 * CHANNELS, 1, 3, 1, 1))
        self.register_buffer("place", torch.linspace(-1, 1, BANDS).expand(1, 1, 1, BANDS), persistent=False)
        self.register_buffer("filters", mel_filters(BANDS, BINS, SAMPLE_RATE), persistent=False)

    def forward(self, magnitudes: Tensor) -> list[Tensor]:
        """Feature maps, the verdict last."""
        h = (((magnitudes @ self.filters.T + FLOOR).log()) / 2 + 2).flatten(1, 2)[:, None]
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
        self.steps = 0

    def judge(self, decoded: Tensor, magnitudes: Tensor, rate: float) -> dict[str, Tensor]:
        """Decoded log(|S| + 1e-5) and magnitudes, both [B, T, 4, 641]. Hinge loss, one step at learning rate `rate`.

        Returns "fool" and "features", which are differentiable in `decoded`, and "discriminator".
        """
        made = magnitudes_of(decoded)
        with torch.autocast(decoded.device.type, torch.bfloat16, enabled=self.half):
            real, fake = self.discriminator(torch.cat([magnitudes, made.detach()]))[-1].float().chunk(2)
            loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.steps += 1
            self.discriminator.requires_grad_(False)
            with torch.no_grad():
                wanted = self.discriminator(magnitudes)
            got = self.discriminator(made)
            self.discriminator.requires_grad_(True)
        features = [_relative(a.float(), b.float()) for a, b in zip(got[:-1], wanted[:-1], strict=True)]
        fool = -got[-1].float().mean()
        return {"fool": fool, "features": torch.stack(features).mean(), "discriminator": loss.detach()}

    def state_dict(self) -> dict[str, Any]:
        parts = {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}
        return parts | {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


def _relative(got: Tensor, wanted: Tensor) -> Tensor:
    """Mean |difference| over mean |wanted|."""
    return (got - wanted).abs().mean() / wanted.abs().mean().clamp(min=1e-6)
