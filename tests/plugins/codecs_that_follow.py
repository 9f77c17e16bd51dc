"""Small untrained codecs of the `magnitude` plugin whose codes follow the sound, and sound for them."""

from __future__ import annotations

import torch

from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.magnitude import Magnitude

HOP, DELAY = 640, 1120
SMALL = {"weights": "random", "width": 24, "hidden": 32, "encoder_blocks": 2, "decoder_blocks": 2, "codebook_size": 64}


def lively(**changes) -> Magnitude:
    """Untrained, but with codes that follow the sound: codebooks are latents of some."""
    config = Magnitude.Config(**SMALL, **changes)
    torch.manual_seed(1)
    network = Magnitude.network_of(config)
    network.mean.fill_(-6.0)
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    torch.nn.init.normal_(network.to_latent.weight, std=0.1)
    if network.tuner:
        torch.nn.init.normal_(network.tuner.leave.weight, std=0.1)
    with torch.no_grad():
        rest = network.encode(music(8, 60)[:, : 59 * HOP], History()).flatten(0, 1)
        for level in network.quantizer.levels:
            level.codebook.copy_(rest[torch.randperm(len(rest))[:64], : level.width])
            rest = level.rest(rest, level.nearest(rest))
        network.whitening.fit(network.encode(music(8, 60)[:, : 59 * HOP], History()).flatten(0, 1))
    return Magnitude.trained(config, network)


def music(rows: int, frames: int) -> torch.Tensor:
    """Chords that are struck again and again, over noise [B, N]; N is no whole number of frames."""
    rng = torch.Generator().manual_seed(rows)
    t = torch.arange(frames * HOP - 200) / 32_000
    tones = 2 * torch.pi * 110 * 2 ** (torch.randint(0, 36, (rows, 3, 1), generator=rng) / 12) * t
    struck = torch.exp(-(t * 4 + torch.rand(rows, 1, generator=rng)) % 1 * 5)
    return 0.2 * tones.sin().sum(1) * struck + 0.01 * torch.randn(rows, len(t), generator=rng)


class KeptPhases:
    """A phase rule that keeps the magnitudes and the tuning that it is given."""

    def __init__(self, heard: list):
        self._heard = heard

    def begin(self, batch):
        return torch.zeros(batch, 1)

    def __call__(self, magnitudes, state, tuning=None):
        self._heard.append((magnitudes, tuning))
        return magnitudes.new_zeros(len(magnitudes), magnitudes.shape[1] * HOP // 4)


def joined(stream, value: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    rest = value.shape[-1] - sum(sizes)
    parts = value.split([*sizes, rest], dim=-1)
    return torch.cat([*(stream.push(part) for part in parts), stream.flush()], dim=-1)
