"""The `dac` tokenizer: DAC, causal for live playing or as it was published; for weights trained on a GPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen
from attrs import validators as v

from accomp.plugin import TokenSpace
from accomp.plugins.tokenizers.codec.files.descript_files import descript_sizes, read_descript
from accomp.plugins.tokenizers.codec.files.weight_files import (
    Weights,
    check_sizes,
    filled,
    first_codebooks,
    first_levels,
    is_safetensors,
    locate,
    own_sizes,
    read_own,
    untrained,
)
from accomp.plugins.tokenizers.codec.networks.dac_network import DacNetwork, reach
from accomp.plugins.tokenizers.codec.streams.lookahead import LookaheadCodec

_STRIDES = (2, 4, 8, 10)
_UNTRAINED = {
    "codebook_size": 1024, "codebook_dim": 8, "latent": 1024, "encoder_width": 64, "decoder_width": 1536,
    "strides": _STRIDES,
}  # fmt: skip


class Dac(LookaheadCodec):
    """The Descript Audio Codec, mono. Levels are taken as they are: nothing is normalised. No weights are shipped.

    What `accomp codec train` makes, and the causal files of stream-music-gen, are causal: frame i sees samples up to
    hop * i (lookahead 0), sample n needs frames up to ceil(n / hop) (delay hop - 1). descript's own files (16, 24, 44.1
    kHz) hear the future: the lookahead and delay, some 100 ms each, are exact, and streams give the offline codes.
    """

    @frozen(kw_only=True)
    class Config:
        """Which weights, and how many of their codebooks.

        Attributes:
            weights: a path, "hub:owner/repo/file[@revision]", or "random" (untrained, for tests). A file is one of
                accomp's, or one that descript-audio-codec or its causal fork saved as weights (.pth).
            codebooks: K, the first so many of the file's.
            codebook_size, codebook_dim: C, and the width in which codes are looked up. A size that is not given is the
                file's; it is 1024, 8, 1024, 64, 1536, (2, 4, 8, 10) where there is none. One that is given must fit.
            latent: E.
            encoder_width: channels before the first stride, doubled by each.
            decoder_width: channels before the first upsampling, halved by each.
            strides: of the encoder, the decoder has them in reverse; their product is the hop (samples).
            seed: of random weights.
        """

        weights: str = "default"
        codebooks: int = field(default=4, validator=v.gt(0))
        codebook_size: int | None = field(default=None, validator=v.optional(v.gt(1)))
        codebook_dim: int | None = field(default=None, validator=v.optional(v.gt(1)))
        latent: int | None = field(default=None, validator=v.optional(v.gt(0)))
        encoder_width: int | None = field(default=None, validator=v.optional(v.gt(0)))
        decoder_width: int | None = field(default=None, validator=v.optional(v.gt(0)))
        strides: tuple[int, ...] | None = field(default=None, validator=v.optional(v.min_len(1)))
        seed: int = field(default=0, validator=v.ge(0))

        @strides.validator
        def _positive(self, attribute: attrs.Attribute, value: tuple[int, ...] | None) -> None:
            if value and min(value) < 1:
                raise ValueError(f"strides {list(value)}; each must be at least 1")

        @decoder_width.validator
        def _halves(self, attribute: attrs.Attribute, value: int | None) -> None:
            times = len(self.strides or _STRIDES)
            if value and value % 2**times:
                raise ValueError(f"decoder_width {value} cannot be halved {times} times")

    def __init__(self, config: Config):
        """Raises CheckpointError, saying what to do, when the weights are missing or of other sizes."""
        if config.weights == "random":
            sizes = self.architecture(config)
            network = untrained(lambda: self.network_of(config), config.seed)
        else:
            path = locate(config.weights, "dac")
            found, tensors = self.read(path)
            sizes = _chosen(config, found, path)
            network = filled(lambda: DacNetwork(**sizes), first_levels(config.codebooks, tensors), path)
        super().__init__("dac", _space(sizes), network, sizes)

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """A tiny, untrained one for the conformance kit."""
        return cls.Config(weights="random", latent=16, encoder_width=4, decoder_width=16, strides=(2, 2, 4, 5))

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        """What the codes of a codec so configured mean. Of a file only what it states is read."""
        sizes = cls.architecture(config)
        if config.weights not in ("random", "default"):
            path = locate(config.weights, "dac")
            sizes = _chosen(config, cls.stated(path), path)
        return _space(sizes)

    @classmethod
    def stated(cls, path: Path) -> dict[str, Any]:
        """The sizes that `read` gives, without the tensors."""
        return own_sizes(path, "dac") if is_safetensors(path) else descript_sizes(path)

    @classmethod
    def read(cls, path: Path, *, trusted: bool = False) -> Weights:
        """Sizes and tensors of a codec file, with all its codebooks; `trusted` lets the file run code that it holds.

        Raises CheckpointError for what is no DAC, or needs its code run and is not trusted.
        """
        return read_own(path, "dac") if is_safetensors(path) else read_descript(path, trusted=trusted)

    @classmethod
    def architecture(cls, config: Config) -> dict[str, Any]:
        """The sizes of a codec that is trained here."""
        return {"codebooks": config.codebooks, **_UNTRAINED, **_given(config)}

    @classmethod
    def network_of(cls, config: Config) -> DacNetwork:
        """An untrained network, from the global random state: what `accomp codec train` trains."""
        return DacNetwork(**cls.architecture(config))

    @classmethod
    def training(cls) -> tuple[type[Any], type[Any]]:
        """The class of [train], and that of the trainer."""
        from accomp.plugins.tokenizers.codec.training.waveform_trainer import WaveformTrainer, WaveformTrainSpec

        return WaveformTrainSpec, WaveformTrainer

    @classmethod
    def trained(cls, config: Config, network: Any) -> Dac:
        """The codec of a network that `accomp codec train` made; the network is taken over."""
        codec = cls.__new__(cls)
        LookaheadCodec.__init__(codec, "dac", cls.space_of(config), network, cls.architecture(config))
        return codec


def _given(config: Dac.Config) -> dict[str, Any]:
    return {name: value for name in _UNTRAINED if (value := getattr(config, name)) is not None}


def _chosen(config: Dac.Config, found: dict[str, Any], path: Path) -> dict[str, Any]:
    """The file's sizes, with as many codebooks as the spec wants. Raises CheckpointError where they do not fit."""
    check_sizes(found | _given(config), found, path)
    return first_codebooks(config.codebooks, found, path)


def _space(sizes: dict[str, Any]) -> TokenSpace:
    """Sizes of codecs that were trained here tell neither rate nor causality: those are the network's defaults."""
    strides = sizes["strides"]
    return TokenSpace(
        sizes.get("sample_rate", 32_000), math.prod(strides), sizes["codebooks"], sizes["codebook_size"],
        sizes["latent"], *reach(strides, sizes.get("causal", True)),
    )  # fmt: skip
