"""What `accomp codec train` calls to train a vocoder: [codec] plugin = "magnitude", part = "vocoder"."""

from __future__ import annotations

from typing import Any

from attrs import asdict, field, frozen
from attrs import validators as v

from accomp.plugin import TokenSpace
from accomp.plugins.tokenizers.codec.files.vocoder_files import decoder_print
from accomp.plugins.tokenizers.codec.files.weight_files import locate, own_sizes
from accomp.plugins.tokenizers.codec.networks.vocoder import VocoderSizes
from accomp.plugins.tokenizers.codec.training.vocoder_trainer import PairedVocoder, VocoderTrainer, VocoderTrainSpec


@frozen(kw_only=True)
class VocoderConfig(VocoderSizes):
    """The rest of [codec] of such a spec.

    Attributes:
        codec: weights of the codec that the vocoder is for: "default", a path, or "hub:owner/repo/file".
        codebooks: how many of its levels are heard while training.
    """

    codec: str = "default"
    codebooks: int = field(default=4, validator=v.gt(0))


class VocoderPart:
    """A vocoder of a codec class (Magnitude), as a thing that a codec spec can train."""

    Config = VocoderConfig
    file = "vocoder.safetensors"
    """Where training writes its weights."""

    def __init__(self, codec: Any):
        self._codec = codec

    def space_of(self, config: VocoderConfig) -> TokenSpace:
        """Of the codec. Raises CheckpointError where its weights are missing or damaged."""
        space: TokenSpace = self._codec.space_of(self._config_of(config))
        return space

    def architecture(self, config: VocoderConfig) -> dict[str, Any]:
        """What the vocoder's file states: its sizes, and the decoder that it is for. Raises as `space_of`."""
        decoder = decoder_print(self._codec(self._config_of(config)).network)
        return {"decoder": decoder, "codebooks": config.codebooks, **_sizes(config)}

    def network_of(self, config: VocoderConfig) -> PairedVocoder:
        """An untrained vocoder, from the global random state, with its codec. Raises as `space_of`."""
        return PairedVocoder(self._codec(self._config_of(config)), **_sizes(config))

    def training(self) -> tuple[type[VocoderTrainSpec], type[VocoderTrainer]]:
        """The class of [train], and that of the trainer."""
        return VocoderTrainSpec, VocoderTrainer

    def trained(self, config: VocoderConfig, network: PairedVocoder) -> Any:
        """The codec with the vocoder in use; both are taken over."""
        network.codec.use_vocoder(network)
        return network.codec

    def _config_of(self, config: VocoderConfig) -> Any:
        """The codec's own Config, with the sizes that its file states."""
        sizes = own_sizes(locate(config.codec, "magnitude"), "magnitude")
        return self._codec.Config(**{**sizes, "weights": config.codec, "codebooks": config.codebooks})


def _sizes(config: VocoderConfig) -> dict[str, int]:
    return asdict(config, filter=lambda a, _: a.name not in ("codec", "codebooks"))
