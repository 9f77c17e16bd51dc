"""`accomp embedder convert-musicnn`: conversion of the weights in the package musicnn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import save

from accomp.core.console import say
from accomp.core.errors import DataError
from accomp.core.files import write_atomic
from accomp.plugins.embedders.musicnn_network import network_of
from accomp.plugins.embedders.tensor_bundle import read_bundle

LAYERS = (
    "input_norm",
    *(f"front.{i}.{part}" for i in range(5) for part in ("conv", "norm")),
    *(f"middle.{i}.{part}" for i in range(3) for part in ("conv", "norm")),
    "pooled_norm", "dense", "dense_norm", "tags",
)  # fmt: skip
"""Layers in TensorFlow's numbering, separately by kind (convolution, normalisation, dense)."""
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def convert_musicnn(
    checkpoint: Annotated[Path, typer.Argument(help="The file .index in the package's folder MTT_musicnn.")],
    out: Annotated[Path, typer.Argument(help="The weights file to write (.safetensors).")],
) -> None:
    """Convert a checkpoint of the package musicnn to weights of the embedder `musicnn`, without TensorFlow."""
    weights = converted(read_bundle(checkpoint))
    try:
        network_of(weights)
    except RuntimeError as error:
        raise DataError(f"not a musicnn of the supported size: {error} @ {checkpoint}") from error
    write_atomic(out, save(weights))
    say(f"musicnn: {sum(value.numel() for value in weights.values())} values @ {out}")


def converted(bundle: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """TensorFlow's names and axes -> those of musicnn_network.py. Raises DataError for a missing layer."""
    counts = {"conv2d": 0, "batch_normalization": 0, "dense": 0}
    weights = {}
    for layer in LAYERS:
        last = layer.rpartition(".")[2]
        kind = "conv2d" if last == "conv" else "batch_normalization" if last.endswith("norm") else "dense"
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        parts = NORM if kind == "batch_normalization" else {"kernel": "weight", "bias": "bias"}
        for theirs, ours in parts.items():
            if f"{name}/{theirs}" not in bundle:
                raise DataError(f"no tensor '{name}/{theirs}' in the checkpoint; expected that of a musicnn")
            value = torch.from_numpy(bundle[f"{name}/{theirs}"])
            weights[f"{layer}.{ours}"] = (_kernel(layer, value) if theirs == "kernel" else value).contiguous()
    return weights


def _kernel(layer: str, value: torch.Tensor) -> torch.Tensor:
    """[frames, bands, in, out] -> [out, in, frames, bands], or, of all bands, [out, bands, frames]; dense: turned."""
    if value.ndim == 2:
        return value.T
    return value[:, :, 0].permute(2, 1, 0) if layer.startswith("middle") else value.permute(3, 2, 0, 1)
