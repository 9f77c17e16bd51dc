"""Vocoder as trainable part of `accomp codec train`: [codec] plugin = "magnitude", part = "vocoder"."""

from __future__ import annotations

from typing import Any

from attrs import asdict, field, frozen
from attrs import validators as v

from accomp.core.types import TokenSpace
from accomp.plugins.tokenizers.codec.files.vocoder_files import decoder_print
from accomp.plugins.tokenizers.codec.files.weight_files import locate, own_sizes
from accomp.plugins.tokenizers.codec.networks.vocoder import VocoderSizes
from accomp.plugins.tokenizers.codec.training.vocoder_trainer import PairedVocoder, VocoderTrainer, VocoderTrainSpec


@frozen(kw_only=True)
class VocoderConfig(VocoderSizes):
    """Further keys of [codec] in such a spec.

    Attributes:
        codec: weights of the codec of the vocoder: "default", a path, or "hub:owner/repo/file".
        codebooks: number of its levels used in training.
    """

    codec: str = "default"
    codebooks: int = field(default=4, validator=v.gt(0))


class VocoderPart:
    """A vocoder of a codec class (Magnitude) as trainable part of a codec spec."""

    Config = VocoderConfig
    file = "vocoder.safetensors"
    """File name of its weights."""

    def __init__(self, codec: Any):
        self._codec = codec

    def space_of(self, config: VocoderConfig) -> TokenSpace:
        """Return the token space of the codec. Raises CheckpointError for missing or damaged weights."""
        space: TokenSpace = self._codec.space_of(self._config_of(config))
        return space

    def architecture(self, config: VocoderConfig) -> dict[str, Any]:
        """Return the header of the vocoder file: its sizes and its decoder. Raises as `space_of`."""
        decoder = decoder_print(self._codec(self._config_of(config)).network)
        return {"decoder": decoder, "codebooks": config.codebooks, **_sizes(config)}

    def network_of(self, config: VocoderConfig) -> PairedVocoder:
        """Return an untrained vocoder, from the global random state, with its codec. Raises as `space_of`."""
        return PairedVocoder(self._codec(self._config_of(config)), **_sizes(config))

    def training(self) -> tuple[type[VocoderTrainSpec], type[VocoderTrainer]]:
        """Return the class of [train] and that of the trainer."""
        return VocoderTrainSpec, VocoderTrainer

    def trained(self, config: VocoderConfig, network: PairedVocoder) -> Any:
        """Return the codec with the vocoder; takes ownership of both."""
        network.codec.use_vocoder(network)
        return network.codec

    def _config_of(self, config: VocoderConfig) -> Any:
        """Return the Config of the codec with the sizes in its file."""
        sizes = own_sizes(locate(config.codec, "magnitude"), "magnitude")
        return self._codec.Config(**{**sizes, "weights": config.codec, "codebooks": config.codebooks})


def _sizes(config: VocoderConfig) -> dict[str, int]:
    return asdict(config, filter=lambda a, _: a.name not in ("codec", "codebooks"))
