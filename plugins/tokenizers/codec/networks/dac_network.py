"""The DAC network from layers of the dac package, causal or as published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import torch.nn.functional as F
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.networks.quantizer import new_quantizer, quiet_import
from accomp.plugins.tokenizers.codec.streams.causal import CausalConv, CausalUpsample, History
from accomp.plugins.tokenizers.codec.streams.sliding import (
    Beside,
    LayerChain,
    SlidingConv,
    SlidingUpsample,
    StreamMemory,
    delay,
    lookahead,
)


class Chain(nn.ModuleList):
    """Layers one after the other over [B, C, n]; causal layers receive the history, upsampling also `final`."""

    def forward(self, x: Tensor, history: History, *, final: bool = False) -> Tensor:
        for layer in self:
            if isinstance(layer, (CausalUpsample, Chain)):
                x = layer(x, history, final=final)
            elif isinstance(layer, (CausalConv, Residual)):
                x = layer(x, history)
            else:
                x = layer(x)
        return x


class Residual(nn.Module):
    """x + conv1(snake(conv7(snake(x)))), the wide one dilated."""

    def __init__(self, body: Chain):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, history: History) -> Tensor:
        return x + self.body(x, history)


def reach(strides: Sequence[int], causal: bool) -> tuple[int, int]:
    """Return lookahead and delay (samples) of a DacNetwork."""
    hop = math.prod(strides)
    if causal:
        return 0, hop - 1
    units = [(3, 1), (9, 1), (27, 1)]
    down = [[*units, (2 * s - 1 - math.ceil(s / 2), s)] for s in strides]
    up = [[(math.ceil(s / 2), s), *units] for s in reversed(strides)]
    return lookahead([(3, 1), *chain(*down), (1, 1)], hop), delay([(3, 1), *chain(*up), (3, 1)])


class DacNetwork(nn.Module):
    """Encoder, quantizer and decoder of the `dac` codec; see Dac.Config for the sizes.

    Causal: every Conv1d is padded on the left only, downsampling has kernel 2s and left padding 2s - 1, so frame i sees
    samples up to hop * i; transposed convolutions are unpadded, so sample n needs frames up to ceil(n / hop).

    Not causal: every convolution is padded by half on both sides, as in the dac package. With odd strides the output is
    `short` samples shorter than the frames; `decode` appends zeros.
    """

    def __init__(
        self,
        *,
        codebooks: int,
        codebook_size: int,
        codebook_dim: int,
        latent: int,
        encoder_width: int,
        decoder_width: int,
        strides: Sequence[int],
        sample_rate: int = 32_000,
        causal: bool = True,
    ):
        super().__init__()
        self.sample_rate, self.causal = sample_rate, causal
        self.hop = math.prod(strides)
        self.quantizer = new_quantizer(latent, codebooks, codebook_size, codebook_dim)
        with quiet_import("the dac codec"):
            from dac.nn.layers import Snake1d, WNConv1d, WNConvTranspose1d

            together = Chain if causal else LayerChain

            def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Module:
                layer = WNConv1d(inputs, outputs, kernel, stride=stride, dilation=dilation)
                if causal:
                    return CausalConv(layer)
                side = (kernel - 1) * dilation // 2 if stride == 1 else math.ceil(stride / 2)
                return SlidingConv(layer, side, side)

            def up(inputs: int, outputs: int, stride: int) -> nn.Module:
                layer = WNConvTranspose1d(inputs, outputs, 2 * stride, stride=stride)
                side = math.ceil(stride / 2)
                return CausalUpsample(layer) if causal else SlidingUpsample(layer, side, side)

            def residual(width: int, dilation: int) -> nn.Module:
                wide, narrow = conv(width, width, 7, dilation=dilation), conv(width, width, 1)
                layers = [Snake1d(width), wide, Snake1d(width), narrow]
                return Residual(Chain(layers)) if causal else Beside(LayerChain(layers))

            def residuals(width: int) -> list[nn.Module]:
                return [residual(width, dilation) for dilation in (1, 3, 9)]

            width = encoder_width
            layers: list[nn.Module] = [conv(1, width, 7)]
            for s in strides:
                layers += [*residuals(width), Snake1d(width), conv(width, 2 * width, 2 * s, stride=s)]
                width *= 2
            self.encoder = together([*layers, Snake1d(width), conv(width, latent, 3)])

            width = decoder_width
            layers = [conv(latent, width, 7)]
            for s in reversed(strides):
                layers += [Snake1d(width), up(width, width // 2, s), *residuals(width // 2)]
                width //= 2
            self.decoder = together([*layers, Snake1d(width), conv(width, 1, 7), nn.Tanh()])
        self.delay = reach(strides, causal)[1]
        self.short = sum((s % 2) * math.prod(strides[:i]) for i, s in enumerate(strides))

    def encoder_parts(self) -> list[nn.Module]:
        """Return the modules of encoding, with the quantizer; they determine the codes."""
        return [self.encoder, self.quantizer]

    def encode(self, audio: Tensor, history: History | StreamMemory, *, final: bool = False) -> Tensor:
        """audio [B, T * hop] -> latents [B, T, E]; if not causal, of the frames that are ready, `final` of all."""
        return self.encoder(audio[:, None], history, final=final).transpose(1, 2)

    def decode(self, z: Tensor, history: History | StreamMemory, *, final: bool = False) -> Tensor:
        """latents [B, T, E] -> audio [B, n]; `final` adds the rest.

        Causal: n = T * hop, from `delay` samples before the frame on. Not causal: the samples that are ready.
        """
        audio = self.decoder(z.transpose(1, 2), history, final=final)[:, 0]
        if self.causal:
            return audio[:, : z.shape[1] * self.hop + (self.delay if final else 0)]
        return F.pad(audio, (0, self.short if final else 0))
