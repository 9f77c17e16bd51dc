"""A causal DAC out of the dac package's own layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from accomp.plugins.tokenizers.causal import CausalConv, CausalUpsample, History
from accomp.plugins.tokenizers.quantizer import new_quantizer, quiet_import


class Chain(nn.ModuleList):
    """Layers one after the other over [B, C, n]; those that look back get the history, upsampling `final`."""

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


class DacNetwork(nn.Module):
    """Encoder, quantizer and decoder of the `dac` codec; see Dac.Config for the sizes.

    Every Conv1d is padded on the left only, downsampling has kernel 2s and left padding 2s - 1, so frame i sees samples
    up to hop * i; transposed convolutions are unpadded, so sample n needs frames up to ceil(n / hop).
    """

    sample_rate = 32_000

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
    ):
        super().__init__()
        self.hop = math.prod(strides)
        self.delay = self.hop - 1
        self.quantizer = new_quantizer(latent, codebooks, codebook_size, codebook_dim)
        with quiet_import("the dac codec"):
            from dac.nn.layers import Snake1d, WNConv1d, WNConvTranspose1d

            def conv(inputs: int, outputs: int, kernel: int, **how: int) -> CausalConv:
                return CausalConv(WNConv1d(inputs, outputs, kernel, **how))

            def residuals(width: int) -> list[nn.Module]:
                return [
                    Residual(
                        Chain(
                            [Snake1d(width), conv(width, width, 7, dilation=d), Snake1d(width), conv(width, width, 1)]
                        )
                    )
                    for d in (1, 3, 9)
                ]

            width = encoder_width
            layers: list[nn.Module] = [conv(1, width, 7)]
            for s in strides:
                layers += [*residuals(width), Snake1d(width), conv(width, 2 * width, 2 * s, stride=s)]
                width *= 2
            self.encoder = Chain([*layers, Snake1d(width), conv(width, latent, 3)])

            width = decoder_width
            layers = [conv(latent, width, 7)]
            for s in reversed(strides):
                up = CausalUpsample(WNConvTranspose1d(width, width // 2, 2 * s, stride=s))
                layers += [Snake1d(width), up, *residuals(width // 2)]
                width //= 2
            self.decoder = Chain([*layers, Snake1d(width), conv(width, 1, 7), nn.Tanh()])

    def encoder_parts(self) -> list[nn.Module]:
        """The modules that encoding runs, the quantizer included; they decide which codes come out."""
        return [self.encoder, self.quantizer]

    def encode(self, audio: Tensor, history: History) -> Tensor:
        """audio [B, T * hop] -> latents [B, T, E]."""
        return self.encoder(audio[:, None], history).transpose(1, 2)

    def decode(self, z: Tensor, history: History, *, final: bool = False) -> Tensor:
        """latents [B, T, E] -> audio [B, T * hop] from `delay` samples before the frame on; `final` adds the rest."""
        n = z.shape[1] * self.hop + (self.delay if final else 0)
        return self.decoder(z.transpose(1, 2), history, final=final)[:, 0, :n]
