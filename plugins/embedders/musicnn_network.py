"""musicnn in PyTorch: a music tagger with musically motivated filters (Pons and Serra, 2019).

Reimplemented after arXiv 1909.06654. Letters: B patches, T frames of a patch, F mel bands.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MELS = 96
TIMBRAL = ((7, 38), (7, 67))
TEMPORAL = (128, 64, 32)
TIMBRAL_FILTERS, TEMPORAL_FILTERS, MIDDLE_FILTERS, UNITS, TAGS = 204, 51, 64, 200, 50
WIDTH = len(TIMBRAL) * TIMBRAL_FILTERS + len(TEMPORAL) * TEMPORAL_FILTERS
POOLED = 2 * (WIDTH + 3 * MIDDLE_FILTERS)
EPSILON = 1e-3


class Front(nn.Module):
    """One kind of filter: convolution, ReLU, normalisation, maximum over bands. [B, 1, T, F] -> [B, C, T]."""

    def __init__(self, filters: int, frames: int, bands: int):
        super().__init__()
        self._pad = (0, 0, (frames - 1) // 2, frames // 2)
        self.conv = nn.Conv2d(1, filters, (frames, bands))
        self.norm = nn.BatchNorm2d(filters, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.relu(self.conv(functional.pad(x, self._pad)))).amax(-1)


class Middle(nn.Module):
    """Convolution over seven frames. [B, C, T] -> [B, 64, T]."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv1d(width, MIDDLE_FILTERS, 7, padding=3)
        self.norm = nn.BatchNorm1d(MIDDLE_FILTERS, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.relu(self.conv(x)))


class MusicnnNetwork(nn.Module):
    """Log-mel patches [B, T, 96] -> embeddings [B, 200], the penultimate layer."""

    def __init__(self) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1, eps=EPSILON)
        timbral = [Front(TIMBRAL_FILTERS, *size) for size in TIMBRAL]
        self.front = nn.ModuleList([*timbral, *(Front(TEMPORAL_FILTERS, frames, 1) for frames in TEMPORAL)])
        self.middle = nn.ModuleList([Middle(WIDTH), Middle(MIDDLE_FILTERS), Middle(MIDDLE_FILTERS)])
        self.pooled_norm = nn.BatchNorm1d(POOLED, eps=EPSILON)
        self.dense = nn.Linear(POOLED, UNITS)
        self.dense_norm = nn.BatchNorm1d(UNITS, eps=EPSILON)
        self.tags = nn.Linear(UNITS, TAGS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_norm(x[:, None])
        front = torch.cat([part(x) for part in self.front], 1)
        layers = [front, self.middle[0](front)]
        for part in self.middle[1:]:
            layers.append(part(layers[-1]) + layers[-1])
        features = torch.cat(layers, 1)
        pooled = torch.stack([features.amax(-1), features.mean(-1)], -1).flatten(1)
        return self.dense_norm(torch.relu(self.dense(self.pooled_norm(pooled))))

    def likelihoods(self, x: Tensor) -> Tensor:
        """Log-mel patches [B, T, 96] -> likelihoods [B, 50] of the training tags, for comparisons."""
        return torch.sigmoid(self.tags(self(x)))


def network_of(weights: dict[str, Tensor]) -> MusicnnNetwork:
    """Return the network with these weights. Raises RuntimeError for other or non-finite weights."""
    if bad := [name for name, weight in weights.items() if not weight.isfinite().all()]:
        raise RuntimeError(f"{bad[0]} holds NaN or Inf")
    with torch.device("meta"):
        network = MusicnnNetwork().eval()
    counters = {name for name in network.state_dict() if name.endswith("num_batches_tracked")}  # training only
    network.load_state_dict(weights | dict.fromkeys(counters, torch.tensor(0)), assign=True)
    return network
