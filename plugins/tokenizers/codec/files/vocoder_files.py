"""Weight files of vocoders, with validation of the matching decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from accomp.plugin import CheckpointError
from accomp.plugins.tokenizers.codec.files.weight_files import filled, locate, read_own
from accomp.plugins.tokenizers.codec.fingerprint import fingerprint_of
from accomp.plugins.tokenizers.codec.networks.magnitude_network import MagnitudeNetwork
from accomp.plugins.tokenizers.codec.networks.vocoder import Vocoder, VocoderSizes

PLUGIN = "magnitude vocoder"
"""Plugin name in vocoder files."""
EXPECTED = 'the vocoder.safetensors that `accomp codec train codec_vocoder` writes, or vocoder = "" for none'


def decoder_print(network: MagnitudeNetwork) -> str:
    """Return a fingerprint of the decoder; unlike that of a codec it ignores the number of codebooks and `stay`."""
    return fingerprint_of("magnitude decoder", network.decoder_tensors())


def load_vocoder(weights: str, network: MagnitudeNetwork) -> Vocoder:
    """Load the vocoder of a file ("hub:owner/repo/file", or a path) for the decoder of a network.

    Raises CheckpointError for a file that is missing, damaged, of another plugin, size or decoder, or not finite.
    """
    path = locate(weights, PLUGIN, EXPECTED)
    stated, tensors = read_own(path, PLUGIN)
    if stated.get("decoder") != (own := decoder_print(network)):
        raise CheckpointError(
            f"the vocoder is for the decoder {stated.get('decoder')}, the codec's weights have {own} @ {path}; "
            'give the vocoder of these weights, or vocoder = ""'
        )
    latent, sizes = network.from_latent.in_features, _sizes(stated, path)
    return filled(lambda: Vocoder(latent=latent, **sizes), tensors, path)


def _sizes(stated: Mapping[str, Any], path: Path) -> dict[str, int]:
    sizes = {key: value for key, value in stated.items() if key not in ("decoder", "codebooks")}
    try:
        return attrs.asdict(VocoderSizes(**sizes))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the file states sizes that no vocoder has, {sizes}: {error} @ {path}") from error
