"""The `dac` tokenizer: a causal DAC of the reference's size, for weights trained on a GPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen
from attrs import validators as v

from accomp.core.types import TokenSpace
from accomp.plugins.tokenizers.codec import FrozenCodec
from accomp.plugins.tokenizers.dac_network import DacNetwork
from accomp.plugins.tokenizers.weight_files import load_network

_NOT_SIZES = ("weights", "seed")


class Dac(FrozenCodec):
    """32 kHz mono, hop 640 (50 Hz): the Descript Audio Codec with every convolution causal.

    Frame i sees samples up to 640 i (lookahead 0), sample n needs frames up to ceil(n / 640) (delay 639). Input levels
    are taken as they are: nothing is normalised. No weights are shipped.
    """

    @frozen(kw_only=True)
    class Config:
        """Which weights, and the sizes they must have.

        Attributes:
            weights: a path, "hub:owner/repo/file[@revision]", or "random" (untrained, for tests).
            codebooks, codebook_size, codebook_dim: K, C, and the width in which codes are looked up.
            latent: E.
            encoder_width: channels before the first stride, doubled by each.
            decoder_width: channels before the first upsampling, halved by each.
            strides: of the encoder, the decoder has them in reverse; their product is the hop (samples).
            seed: of random weights.
        """

        weights: str = "default"
        codebooks: int = field(default=4, validator=v.gt(0))
        codebook_size: int = field(default=1024, validator=v.gt(1))
        codebook_dim: int = field(default=8, validator=v.gt(1))
        latent: int = field(default=1024, validator=v.gt(0))
        encoder_width: int = field(default=64, validator=v.gt(0))
        decoder_width: int = field(default=1536, validator=v.gt(0))
        strides: tuple[int, ...] = field(default=(2, 4, 8, 10), validator=v.min_len(1))
        seed: int = field(default=0, validator=v.ge(0))

        @strides.validator
        def _positive(self, attribute: attrs.Attribute, value: tuple[int, ...]) -> None:
            if min(value) < 1:
                raise ValueError(f"strides {list(value)}; each must be at least 1")

        @decoder_width.validator
        def _halves(self, attribute: attrs.Attribute, value: int) -> None:
            if value % 2 ** len(self.strides):
                raise ValueError(f"decoder_width {value} cannot be halved {len(self.strides)} times")

    def __init__(self, config: Config):
        """Raises CheckpointError, saying what to do, when the weights are missing or of other sizes."""
        sizes = self.architecture(config)
        network = load_network(lambda: self.network_of(config), config.weights, "dac", sizes, config.seed)
        super().__init__("dac", self.space_of(config), network, sizes)

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """A tiny, untrained one for the conformance kit."""
        return cls.Config(weights="random", latent=16, encoder_width=4, decoder_width=16, strides=(2, 2, 4, 5))

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        """What the codes of a codec so configured mean; no weights are loaded."""
        hop = math.prod(config.strides)
        rate = DacNetwork.sample_rate
        return TokenSpace(rate, hop, config.codebooks, config.codebook_size, config.latent, 0, hop - 1)

    @classmethod
    def architecture(cls, config: Config) -> dict[str, Any]:
        """The sizes that weights must fit."""
        return attrs.asdict(config, filter=lambda a, _: a.name not in _NOT_SIZES)

    @classmethod
    def network_of(cls, config: Config) -> DacNetwork:
        """An untrained network, from the global random state: what `accomp codec train` trains."""
        return DacNetwork(**cls.architecture(config))
