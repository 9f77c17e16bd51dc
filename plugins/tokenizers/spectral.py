"""The `spectral` tokenizer: a small causal codec at the frame rate, with weights that come along."""

from __future__ import annotations

from typing import Any

import attrs
from attrs import field, frozen
from attrs import validators as v

from accomp.core.errors import PluginError
from accomp.core.types import TokenSpace
from accomp.plugins.tokenizers.codec import Live
from accomp.plugins.tokenizers.lookahead import LookaheadCodec
from accomp.plugins.tokenizers.spectral_centred import CentredNetwork, reach
from accomp.plugins.tokenizers.spectral_network import SpectralNetwork
from accomp.plugins.tokenizers.weight_files import load_network

_NOT_SIZES = ("weights", "seed", "causal")


class Spectral(LookaheadCodec):
    """32 kHz mono, hop 640 (50 Hz): STFT encoder, residual vector quantizer, inverse STFT decoder, causal.

    The encoder's window of 2560 samples ends with the frame's last sample (lookahead 0); the decoder overlap-adds
    windows of 640 samples, two a frame, so a sample also needs what follows within 320 samples (delay 320). Input
    levels are taken as they are: nothing is normalised. 3.3 M parameters; about 0.2 s for 10 s of audio there and back
    on one core.

    With `causal = false` every layer hears as many frames ahead as behind, and the window's middle is the frame's: as
    many parameters, 0.33 s of lookahead, 0.43 s of delay. It is there to tell what being causal costs; no weights of it
    are shipped.
    """

    @frozen(kw_only=True)
    class Config:
        """Which weights, and the sizes they must have.

        Attributes:
            weights: "default" (shipped), a path, "hub:owner/repo/file[@revision]", or "random" (untrained, for tests).
            codebooks: K, the first so many of the file's (the shipped one has 8).
            codebook_size, codebook_dim: C, and the width in which codes are looked up.
            width, hidden: of the blocks; E is `width`.
            encoder_blocks, decoder_blocks, kernel: how many, and how many frames each hears.
            causal: whether these are its own and those before it, or (kernel odd) lie around it.
            seed: of random weights.
        """

        weights: str = "default"
        codebooks: int = field(default=4, validator=v.gt(0))
        codebook_size: int = field(default=1024, validator=v.gt(1))
        codebook_dim: int = field(default=16, validator=v.gt(1))
        width: int = field(default=192, validator=v.gt(0))
        hidden: int = field(default=576, validator=v.gt(0))
        encoder_blocks: int = field(default=5, validator=v.ge(0))
        decoder_blocks: int = field(default=7, validator=v.ge(0))
        kernel: int = field(default=7, validator=v.gt(0))
        causal: bool = field(default=True)
        seed: int = field(default=0, validator=v.ge(0))

        @causal.validator
        def _has_a_middle(self, attribute: attrs.Attribute, value: bool) -> None:
            if not value and self.kernel % 2 == 0:
                raise ValueError(f"causal = false needs an odd kernel, not {self.kernel}")

    def __init__(self, config: Config):
        """Raises CheckpointError, saying what to do, when the weights are missing or of other sizes."""
        sizes = self.architecture(config)
        network = load_network(lambda: self.network_of(config), config.weights, "spectral", sizes, config.seed)
        super().__init__("spectral", self.space_of(config), network, sizes)

    @property
    def prepares_quickly(self) -> bool:
        return self.network.causal and self.device.type == "cpu"

    def _compiled(self, batch: int, frames: int) -> tuple[Live, Live]:
        """Machine code on a CPU, whatever the batch; graphs on other devices."""
        if self.device.type != "cpu":
            return super()._compiled(batch, frames)
        for known in self._live.values():
            return known
        try:
            from accomp.plugins.tokenizers.spectral_live import SpectralDecoder, SpectralEncoder
        except ImportError as error:
            raise PluginError(
                f"tokenizer 'spectral' compiles its streams with numba, which could not be imported ({error}); "
                "run: pip install 'accomp[codec]', or set compile = \"off\""
            ) from error
        return SpectralEncoder(self.network, self.codebooks), SpectralDecoder(self.network, self.codebooks)

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        """What the codes of a codec so configured mean; no weights are loaded."""
        network = SpectralNetwork
        far = (0, network.delay)
        if not config.causal:
            far = reach(config.encoder_blocks, config.decoder_blocks, config.kernel)
        return TokenSpace(network.sample_rate, network.hop, config.codebooks, config.codebook_size, config.width, *far)

    @classmethod
    def architecture(cls, config: Config) -> dict[str, Any]:
        """The sizes that weights must fit."""
        sizes = attrs.asdict(config, filter=lambda a, _: a.name not in _NOT_SIZES)
        return sizes if config.causal else sizes | {"causal": False}

    @classmethod
    def network_of(cls, config: Config) -> SpectralNetwork:
        """An untrained network, from the global random state: what `accomp codec train` trains."""
        sizes = cls.architecture(config)
        return SpectralNetwork(**sizes) if sizes.pop("causal", True) else CentredNetwork(**sizes)
