"""Plugins that each break one promise, so that the conformance kit can be seen to notice: a module for each kind.

A class is registered under the beginning of the property that it breaks; most are a good plugin and one wrong line.
"""

from broken_plugins import (  # noqa: F401  # each registers its own
    all_kinds,
    backbones,
    causal_samplers,
    commands,
    corpora,
    embedders,
    followers,
    fusers,
    latents,
    masked_samplers,
    metrics,
    models,
    objectives,
    tokenizers,
)
from broken_plugins.register import BROKEN

__all__ = ["BROKEN"]
