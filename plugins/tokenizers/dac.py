"""The `dac` tokenizer: the Descript Audio Codec, causal for live playing or as published."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen
from attrs import validators as v

from accomp.core.types import TokenSpace
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
    """The Descript Audio Codec, mono. Input levels are not normalised. No weights are included.

    Codecs of `accomp codec train` and the causal files of stream-music-gen are causal: frame i depends on samples up to
    hop * i (lookahead 0), sample n on frames up to ceil(n / hop) (delay hop - 1). Descript's files (16, 24, 44.1 kHz)
    are not causal: lookahead and delay, about 100 ms each, are exact, and streams give the offline codes.
    """

    @frozen(kw_only=True)
    class Config:
        """Weights and sizes.

        Attributes:
            weights: a path, "hub:owner/repo/file[@revision]", or "random" (untrained, for tests). A file is one of
                accomp, or weights (.pth) of descript-audio-codec or its causal fork.
            codebooks: K, number of leading codebooks of the file.
            codebook_size, codebook_dim: C, and the width of codebook vectors. Omitted sizes are read from the file, or
                default to 1024, 8, 1024, 64, 1536, (2, 4, 8, 10) without one; given sizes must match the file.
            latent: E.
            encoder_width: channels before the first stride, doubled by each.
            decoder_width: channels before the first upsampling, halved by each.
            strides: strides of the encoder, reversed in the decoder; their product is the hop (samples).
            seed: seed of random weights.
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
        """Raises CheckpointError, with instructions, for missing weights or other sizes."""
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
        """Return a tiny, untrained configuration for the conformance kit."""
        return cls.Config(weights="random", latent=16, encoder_width=4, decoder_width=16, strides=(2, 2, 4, 5))

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        """Return the token space of a configuration; reads only the header of a file."""
        sizes = cls.architecture(config)
        if config.weights not in ("random", "default"):
            path = locate(config.weights, "dac")
            sizes = _chosen(config, cls.stated(path), path)
        return _space(sizes)

    @classmethod
    def stated(cls, path: Path) -> dict[str, Any]:
        """Return the sizes of `read` without tensors."""
        return own_sizes(path, "dac") if is_safetensors(path) else descript_sizes(path)

    @classmethod
    def read(cls, path: Path, *, trusted: bool = False) -> Weights:
        """Read sizes and tensors of a codec file with all its codebooks; `trusted` allows code in the file to run.

        Raises CheckpointError for anything but a DAC, and for untrusted files that need to run code.
        """
        return read_own(path, "dac") if is_safetensors(path) else read_descript(path, trusted=trusted)

    @classmethod
    def architecture(cls, config: Config) -> dict[str, Any]:
        """Return the sizes of a codec for training."""
        return {"codebooks": config.codebooks, **_UNTRAINED, **_given(config)}

    @classmethod
    def network_of(cls, config: Config) -> DacNetwork:
        """Return an untrained network for `accomp codec train`, from the global random state."""
        return DacNetwork(**cls.architecture(config))

    @classmethod
    def training(cls) -> tuple[type[Any], type[Any]]:
        """Return the class of [train] and that of the trainer."""
        from accomp.plugins.tokenizers.codec.training.waveform_trainer import WaveformTrainer, WaveformTrainSpec

        return WaveformTrainSpec, WaveformTrainer

    @classmethod
    def trained(cls, config: Config, network: Any) -> Dac:
        """Wrap a trained network as codec; takes ownership of the network."""
        codec = cls.__new__(cls)
        LookaheadCodec.__init__(codec, "dac", cls.space_of(config), network, cls.architecture(config))
        return codec


def _given(config: Dac.Config) -> dict[str, Any]:
    return {name: value for name in _UNTRAINED if (value := getattr(config, name)) is not None}


def _chosen(config: Dac.Config, found: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the sizes of the file with the codebooks of the spec. Raises CheckpointError on a mismatch."""
    check_sizes(found | _given(config), found, path)
    return first_codebooks(config.codebooks, found, path)


def _space(sizes: dict[str, Any]) -> TokenSpace:
    """Return the token space; codecs trained by accomp have the default rate and causality of the network."""
    strides = sizes["strides"]
    return TokenSpace(
        sizes.get("sample_rate", 32_000), math.prod(strides), sizes["codebooks"], sizes["codebook_size"],
        sizes["latent"], *reach(strides, sizes.get("causal", True)),
    )  # fmt: skip
