"""All that a plugin imports from accomp; what else belongs to one kind of plugin stands in a module of its own.

    accomp.plugin            Component, hookimpl, the values and interfaces of all kinds, errors,
                             messages, files, drawing codes from logits
    accomp.plugin.sequences  delay pattern, model, masks, chunks and KV caches: objectives, backbones, fusers
    accomp.plugin.diffusion  noise, flow and rollout of models that play latents
    accomp.plugin.sound      audio files, resampling, loudness
    accomp.plugin.corpora    song folders, instrument classes, annotations
    accomp.plugin.metrics    caches, embedders, Frechet distance, intervals
    accomp.plugin.pages      HTML pages with players and charts
    accomp.plugin.specs      TOML files and sections; building parts from a spec

Names of this module are imported at their first use, so that a plugin pays only for what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accomp.core.clock import Clock
    from accomp.core.component import Component
    from accomp.core.compute.cores import cores
    from accomp.core.console import Advance, progress, say, warn
    from accomp.core.errors import (
        CheckpointError,
        CombinationError,
        DataError,
        EmptyClip,
        Interrupted,
        PluginError,
        SpecError,
        UserError,
        WorkError,
    )
    from accomp.core.files import folder_atomic, hash_file, write_atomic
    from accomp.core.hooks import hookimpl
    from accomp.core.interfaces import (
        Backbone,
        CausalSampler,
        Corpus,
        Decoding,
        DenoisedSampler,
        Draw,
        Embedder,
        Follower,
        Fuser,
        MaskedSampler,
        Metric,
        Objective,
        Predict,
        Predicting,
        State,
        Stream,
        Tokenizer,
        Velocities,
    )
    from accomp.core.keyed_random import KeyedRandom
    from accomp.core.model.sampling import draw, fewest_likeliest, in_one_kernel, temper, valid_temperature
    from accomp.core.names import composed, nearest
    from accomp.core.registry import Registry
    from accomp.core.spec.durations import Frames
    from accomp.core.trouble import raise_trouble
    from accomp.core.types import AttentionPattern, Batch, CodeBatch, Loss, Stem, Take, TokenSpace, Track

__all__ = [
    "Advance",
    "AttentionPattern",
    "Backbone",
    "Batch",
    "CausalSampler",
    "CheckpointError",
    "Clock",
    "CodeBatch",
    "CombinationError",
    "Component",
    "Corpus",
    "DataError",
    "Decoding",
    "DenoisedSampler",
    "Draw",
    "Embedder",
    "EmptyClip",
    "Follower",
    "Frames",
    "Fuser",
    "Interrupted",
    "KeyedRandom",
    "Loss",
    "MaskedSampler",
    "Metric",
    "Objective",
    "PluginError",
    "Predict",
    "Predicting",
    "Registry",
    "SpecError",
    "State",
    "Stem",
    "Stream",
    "Take",
    "TokenSpace",
    "Tokenizer",
    "Track",
    "UserError",
    "Velocities",
    "WorkError",
    "composed",
    "cores",
    "draw",
    "fewest_likeliest",
    "folder_atomic",
    "hash_file",
    "hookimpl",
    "in_one_kernel",
    "nearest",
    "progress",
    "raise_trouble",
    "say",
    "temper",
    "valid_temperature",
    "warn",
    "write_atomic",
]

_PLACES = {
    "accomp.core.clock": ("Clock",),
    "accomp.core.component": ("Component",),
    "accomp.core.compute.cores": ("cores",),
    "accomp.core.console": (
        "Advance",
        "progress",
        "say",
        "warn",
    ),
    "accomp.core.errors": (
        "CheckpointError",
        "CombinationError",
        "DataError",
        "EmptyClip",
        "Interrupted",
        "PluginError",
        "SpecError",
        "UserError",
        "WorkError",
    ),
    "accomp.core.files": (
        "folder_atomic",
        "hash_file",
        "write_atomic",
    ),
    "accomp.core.hooks": ("hookimpl",),
    "accomp.core.interfaces": (
        "Backbone",
        "CausalSampler",
        "Corpus",
        "Decoding",
        "DenoisedSampler",
        "Draw",
        "Embedder",
        "Follower",
        "Fuser",
        "MaskedSampler",
        "Metric",
        "Objective",
        "Predict",
        "Predicting",
        "State",
        "Stream",
        "Tokenizer",
        "Velocities",
    ),
    "accomp.core.keyed_random": ("KeyedRandom",),
    "accomp.core.model.sampling": (
        "draw",
        "fewest_likeliest",
        "in_one_kernel",
        "temper",
        "valid_temperature",
    ),
    "accomp.core.names": (
        "composed",
        "nearest",
    ),
    "accomp.core.registry": ("Registry",),
    "accomp.core.spec.durations": ("Frames",),
    "accomp.core.trouble": ("raise_trouble",),
    "accomp.core.types": (
        "AttentionPattern",
        "Batch",
        "CodeBatch",
        "Loss",
        "Stem",
        "Take",
        "TokenSpace",
        "Track",
    ),
}
"""Module -> the names of this one that it defines."""


if not TYPE_CHECKING:  # so that a type checker finds a misspelt name

    def __getattr__(name: str) -> Any:
        for module, names in _PLACES.items():
            if name in names:
                return getattr(importlib.import_module(module), name)
        raise AttributeError(f"module 'accomp.plugin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
