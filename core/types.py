"""The values that flow through the house. Frozen; shapes in the letters B, T, S, K, V, E, N of interfaces.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from attrs import field, frozen
from attrs import validators as v

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@frozen
class TokenSpace:
    """What a tokenizer's codes mean: enough to refuse tokens of another codec.

    Attributes:
        sample_rate: Hz.
        hop: samples a frame.
        codebooks: K, RVQ levels modelled; 0 for a tokenizer of continuous latents.
        codebook_size: C, codes a level; 0 for continuous latents.
        latent_dim: E, width of `Tokenizer.embed`.
        lookahead: samples of audio after a frame's last sample that its code depends on; 0 is causal.
        delay: samples by which decoding lags: sample n of the output needs frames up to (n + delay) // hop.
    """

    sample_rate: int = field(validator=v.gt(0))
    hop: int = field(validator=v.gt(0))
    codebooks: int = field(validator=v.ge(0))
    codebook_size: int = field(validator=v.ge(0))
    latent_dim: int = field(validator=v.gt(0))
    lookahead: int = field(default=0, validator=v.ge(0))
    delay: int = field(default=0, validator=v.ge(0))

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz)."""
        return self.sample_rate / self.hop

    def frames(self, samples: int) -> int:
        """Frames that cover `samples`: ceil(N / hop)."""
        return -(-samples // self.hop)

    def fingerprint(self) -> str:
        """Hash of every field, hex; equal spaces have equal fingerprints."""
        return hashlib.sha256(json.dumps(attrs.asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@frozen
class Stem:
    """One recorded or rendered part of a song. `instrument` is one of core.instruments.CLASSES (its index)."""

    path: Path
    instrument: int
    name: str = ""


@frozen
class Track:
    """A song: stems that start together. `stems` maps a name that is unique in the song to its Stem."""

    id: str
    stems: dict[str, Stem]
    source: str = ""
    licence: str = ""


@frozen(eq=False)
class CodeBatch:
    """Token clips as the loader gives them, before latents are looked up.

    Attributes:
        context: [B, K, T] codes of the input mixture.
        target: [B, K, T] codes of the stem to be played.
        valid: [B, T] bool, frames that count in the loss.
        labels: condition name -> [B] int64 class.
    """

    context: Tensor
    target: Tensor
    valid: Tensor
    labels: dict[str, Tensor]


@frozen(eq=False)
class Batch:
    """What an objective sees: latents x [B, T, E], target codes y [B, K, T], valid [B, T], labels as in CodeBatch."""

    x: Tensor
    y: Tensor
    valid: Tensor
    labels: dict[str, Tensor]


@frozen(eq=False)
class Take:
    """One accompaniment to be judged. Audio is float32 mono [N] at `sample_rate`, context and stem of equal length.

    `truth` is the stem that the musicians played, where it is known.
    """

    id: str
    context: np.ndarray
    stem: np.ndarray
    sample_rate: int
    instrument: int
    truth: np.ndarray | None = None


@frozen(eq=False)
class Loss:
    """`total` is what is minimised (scalar tensor, nats per token); `parts` are detached scalars by name."""

    total: Tensor
    parts: dict[str, Tensor]
