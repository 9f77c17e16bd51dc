"""The `encodec` tokenizer: EnCodec's 32 kHz model, the codec of MusicGen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from attrs import field, frozen
from attrs import validators as v

from accomp.core.types import TokenSpace
from accomp.plugins.tokenizers.codec.files.encodec_files import read_encodec, weights_beside
from accomp.plugins.tokenizers.codec.files.weight_files import (
    Weights,
    download,
    filled,
    first_codebooks,
    is_own,
    locate,
    read_own,
    save_weights,
    untrained,
)
from accomp.plugins.tokenizers.codec.networks.encodec_network import EncodecNetwork, EuclideanCodebooks, space_of
from accomp.plugins.tokenizers.codec.streams.lookahead import LookaheadCodec

WHERE = (
    'a folder or file of transformers, audiocraft\'s compression_state_dict.bin, or "hub:owner/repo/file", such as '
    '"hub:facebook/encodec_32khz/model.safetensors"'
)


class Encodec(LookaheadCodec):
    """EnCodec, 32 kHz mono, hop 640 (50 Hz), 4 x 2048: a file of transformers or audiocraft. No weights are included.

    It is not causal: with those sizes its lookahead is 2,386 samples and its delay 2,402 (75 ms each), both exact, and
    streams give the offline codes. Input levels are not normalised. The published weights are CC BY-NC 4.0.
    """

    @frozen(kw_only=True)
    class Config:
        """Weights and number of codebooks. All sizes are read from the file.

        Attributes:
            weights: a path, or "hub:owner/repo/file[@revision]": a folder or file of transformers (config.json beside
                it), audiocraft's compression_state_dict.bin, or the result of `accomp codec convert`.
            codebooks: K, number of leading codebooks of the file.
        """

        weights: str
        codebooks: int = field(default=4, validator=v.gt(0))

    def __init__(self, config: Config):
        """Raises CheckpointError, with instructions, for missing weights or another kind."""
        path = _located(config.weights)
        found, tensors = self.read(path, config=lambda: _config_of(config.weights, path))
        sizes = first_codebooks(config.codebooks, found, path)
        tensors["codes"] = tensors["codes"][: config.codebooks]
        network = filled(lambda: EncodecNetwork(**sizes), tensors, path)
        super().__init__("encodec", space_of(sizes), network, sizes, EuclideanCodebooks(network.codes))

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Return a tiny, untrained configuration for the conformance kit."""
        sizes: dict[str, Any] = {
            "sample_rate": 32_000, "codebooks": 4, "codebook_size": 64, "latent": 8, "filters": 4, "ratios": [5, 4, 2],
            "kernel": 7, "last_kernel": 7, "residual_kernel": 3, "residual_layers": 1, "dilation_growth": 2,
            "compress": 2, "lstm_layers": 2, "padding": "reflect",
        }  # fmt: skip
        path = folder / "codec.safetensors"
        network = untrained(lambda: EncodecNetwork(**sizes), 0)
        with torch.no_grad():
            for parameter in network.encoder.parameters():
                parameter.mul_(2)  # so that codes depend on the input
        save_weights(path, network, "encodec", sizes, half=False)
        return cls.Config(weights=str(path))

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        """Return the token space of a configuration from its weight file, which must exist."""
        path = _located(config.weights)
        found, _ = cls.read(path, config=lambda: _config_of(config.weights, path))
        return space_of(first_codebooks(config.codebooks, found, path))

    @classmethod
    def read(cls, path: Path, *, config: Callable[[], Path] | None = None, trusted: bool = False) -> Weights:
        """Read sizes and tensors of a codec file with all its codebooks; `trusted` allows code in the file to run.

        `config` locates the config.json of transformers' weights; None: beside them. Raises CheckpointError for
        anything but such an EnCodec, and for untrusted files that need to run code.
        """
        if is_own(path):
            return read_own(path, "encodec")
        return read_encodec(path, config or (lambda: path.parent / "config.json"), trusted=trusted)


def _located(weights: str) -> Path:
    if not weights.startswith("hub:") and Path(weights).is_dir():
        return weights_beside(Path(weights))
    return locate(weights, "encodec", WHERE)


def _config_of(weights: str, path: Path) -> Path:
    if not weights.startswith("hub:"):
        return path.parent / "config.json"
    name, at, revision = weights.partition("@")
    return download(f"{name.rpartition('/')[0]}/config.json{at}{revision}")
