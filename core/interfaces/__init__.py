"""Interfaces of the plugins, one module a kind.

Shape letters: B batch, T frames, S positions of a sequence, K codebooks, C codes a codebook, V vocabulary, E latent
width, D model width, N samples. Construction is uniform: every plugin has a nested frozen attrs class `Config`
(its section of a spec file) and is built by keyword:

    corpus, tokenizer, embedder cls(config)
    follower                    cls(config, sample_rate)        sample rate of its input, Hz
    sampler, objective, metric  cls(config, space)
    fuser, backbone             cls(config, space, width)       width is D
"""

from accomp.core.interfaces.corpus import Corpus
from accomp.core.interfaces.follower import Follower
from accomp.core.interfaces.metric import Embedder, Metric
from accomp.core.interfaces.model import Backbone, Fuser, State
from accomp.core.interfaces.objective import Objective
from accomp.core.interfaces.samplers import (
    CausalSampler,
    Decoding,
    DenoisedSampler,
    Draw,
    MaskedSampler,
    Predict,
    Predicting,
    Velocities,
)
from accomp.core.interfaces.tokenizer import Stream, Tokenizer, decoder_fingerprint_of

__all__ = [
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
    "decoder_fingerprint_of",
]
