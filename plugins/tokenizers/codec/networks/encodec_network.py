"""The network of EnCodec (arXiv 2210.13438) in the form of its 32 kHz model: mono, not causal, weight norm folded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.core.types import TokenSpace
from accomp.plugins.tokenizers.codec.streams.sliding import (
    Beside,
    LayerChain,
    Padding,
    Recurrent,
    SlidingConv,
    SlidingUpsample,
    StreamMemory,
    delay,
    lookahead,
)


def space_of(sizes: Mapping[str, Any]) -> TokenSpace:
    """Return the token space of a network of these sizes."""

    def side(kernel: int, dilation: int = 1) -> tuple[int, int]:
        return (kernel - 1) * dilation // 2, 1

    ratios, hop = sizes["ratios"], math.prod(sizes["ratios"])
    units = [side(sizes["residual_kernel"], sizes["dilation_growth"] ** j) for j in range(sizes["residual_layers"])]
    first, last = side(sizes["kernel"]), side(sizes["last_kernel"])
    down = [[*units, (2 * s - 1 - (s - s // 2), s)] for s in reversed(ratios)]
    up = [[(s - s // 2, s), *units] for s in ratios]
    return TokenSpace(
        sizes["sample_rate"], hop, sizes["codebooks"], sizes["codebook_size"], sizes["latent"],
        lookahead([first, *chain(*down), last], hop), delay([first, *chain(*up), last]),
    )  # fmt: skip


class EncodecNetwork(nn.Module):
    """Encoder, codebooks and decoder; layers are numbered as in EnCodec's files.

    Args:
        codebooks, codebook_size, latent: K, C, E; codebook entries have the width of the latents.
        filters: channels at the sample rate; doubled by each downsampling.
        ratios: strides of the decoder, reversed in the encoder; their product is the hop (samples).
        kernel, last_kernel, residual_kernel: kernel sizes of the first, the last and the residual convolutions (odd).
        residual_layers: residual blocks at each rate; block j is dilated by dilation_growth ** j.
        compress: reduction of channels inside residual blocks.
        lstm_layers: LSTM layers between encoder or decoder and the latents.
        padding: padding mode at both ends of a clip.
    """

    causal = False
    codes: Tensor

    def __init__(
        self,
        *,
        sample_rate: int,
        codebooks: int,
        codebook_size: int,
        latent: int,
        filters: int,
        ratios: Sequence[int],
        kernel: int,
        last_kernel: int,
        residual_kernel: int,
        residual_layers: int,
        dilation_growth: int,
        compress: int,
        lstm_layers: int,
        padding: Padding,
    ):
        super().__init__()
        self.sample_rate = sample_rate
        self.hop = math.prod(ratios)

        def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> SlidingConv:
            layer = nn.Conv1d(inputs, outputs, kernel, stride=stride, dilation=dilation)
            total = (kernel - 1) * dilation + 1 - stride
            return SlidingConv(layer, total - total // 2, total // 2, padding)

        def residuals(width: int) -> list[nn.Module]:
            inner = width // compress
            return [
                Beside(
                    LayerChain([
                        nn.ELU(), conv(width, inner, residual_kernel, dilation=dilation_growth**j),
                        nn.ELU(), conv(inner, width, 1),
                    ])
                )
                for j in range(residual_layers)
            ]  # fmt: skip

        layers: list[nn.Module] = [conv(1, filters, kernel)]
        width = filters
        for ratio in reversed(ratios):
            layers += [*residuals(width), nn.ELU(), conv(width, 2 * width, 2 * ratio, stride=ratio)]
            width *= 2
        self.encoder = LayerChain([*layers, Recurrent(width, lstm_layers), nn.ELU(), conv(width, latent, last_kernel)])

        layers = [conv(latent, width, kernel), Recurrent(width, lstm_layers)]
        for ratio in ratios:
            up = nn.ConvTranspose1d(width, width // 2, 2 * ratio, stride=ratio)
            layers += [nn.ELU(), SlidingUpsample(up, ratio - ratio // 2, ratio // 2), *residuals(width // 2)]
            width //= 2
        self.decoder = LayerChain([*layers, nn.ELU(), conv(width, 1, last_kernel)])
        self.register_buffer("codes", torch.randn(codebooks, codebook_size, latent))

    def encoder_parts(self) -> list[nn.Module]:
        """Return the modules of encoding."""
        return [self.encoder]

    def encode(self, audio: Tensor, past: StreamMemory, *, final: bool = False) -> Tensor:
        """audio [B, n] -> latents [B, T, E] of the frames that are ready; `final` gives the rest."""
        return self.encoder(audio[:, None], past, final=final).transpose(1, 2)

    def decode(self, z: Tensor, past: StreamMemory, *, final: bool = False) -> Tensor:
        """latents [B, T, E] -> audio [B, n], the samples that are ready; `final` gives the rest."""
        return self.decoder(z.transpose(1, 2), past, final=final)[:, 0]


class EuclideanCodebooks(nn.Module):
    """Residual codebooks [K, C, E] with nearest-neighbour search by distance, in float64."""

    entries: Tensor  # float64
    embeddings: Tensor  # the same in float32
    lengths: Tensor  # [K, C], squared, float64

    def __init__(self, codes: Tensor):
        super().__init__()
        entries = codes.detach().double()
        self.register_buffer("entries", entries)
        self.register_buffer("embeddings", entries.float())
        self.register_buffer("lengths", entries.square().sum(-1))

    def quantize(self, z: Tensor) -> Tensor:
        """z [B, T, E] float64 -> codes [B, K, T] int64, each level quantizes the residual of the previous ones."""
        codes = []
        for entries, lengths in zip(self.entries, self.lengths, strict=True):
            code = (2 * z @ entries.T - lengths).argmax(-1)
            z = z - F.embedding(code, entries)
            codes.append(code)
        return torch.stack(codes, dim=1)

    def embed(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] -> latents [B, T, E] float32, the sum over levels."""
        levels = torch.arange(len(self.embeddings), device=codes.device)[:, None]
        return self.embeddings[levels, codes].sum(dim=1)
