"""Content of a checkpoint file of stream-music-gen: weights, step, and what is stated about its class and arguments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from accomp.plugin import CheckpointError
from accomp.plugins.importers.checkpoint_files import arguments, load
from accomp.plugins.importers.stream_music_gen.weights import Reference, recognise

CODEC = "tokenizer."
"""Name prefix of codec weights in its checkpoints."""
MODEL = "model."
"""Name prefix of model weights."""
STREAMING, CHUNKED = "DecoderTransformerMultiOut", "OnlinePrefixDecoderTransformerMultiOut"
"""The two streaming model classes, whose weights have the same names."""


@frozen(eq=False)
class Found:
    """Content of a checkpoint file.

    Attributes:
        file: path.
        model: the weights.
        step: completed optimizer steps; 1 if unknown.
        codec: number of codec weights in the file.
        settings: statements about its class and arguments: property -> source -> value.
    """

    file: Path
    model: Reference
    step: int
    codec: int
    settings: dict[str, dict[str, Any]]


def read(file: Path) -> Found:
    """Read a checkpoint without running code from it.

    Raises CheckpointError with all problems for a file that is not a checkpoint of one of its models.
    """
    held = load(file)
    named, codec, others = {}, 0, []
    for name, weight in held["state_dict"].items():
        if name.startswith(MODEL):
            named[name.removeprefix(MODEL)] = weight
        elif name.startswith(CODEC):
            codec += 1
        else:
            others.append(name)
    try:
        model = recognise(named | {name: held["state_dict"][name] for name in others})
    except CheckpointError as error:
        raise CheckpointError(*(f"{problem} @ {file}" for problem in error.problems)) from None
    step = held.get("global_step")
    return Found(file, model, step if type(step) is int and step > 0 else 1, codec, _stated(file, held))


def _stated(file: Path, held: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Collect statements about class and arguments of the model; its training writes args.yml beside the file."""
    settings: dict[str, dict[str, Any]] = defaultdict(dict)
    parameters = held.get("hyper_parameters")
    for name, value in parameters.items() if isinstance(parameters, Mapping) else ():
        settings[str(name)]["hyper_parameters"] = value
    path = file.with_name("args.yml")
    for name, value in arguments(path).items():
        cls, _, argument = name.rpartition(".")
        if cls in (STREAMING, CHUNKED):
            settings["cls"][path.name] = cls
        if cls in (STREAMING, CHUNKED, ""):
            settings[argument][path.name] = value
    return dict(settings)
