"""The values that flow through the house. Frozen; shapes in the letters B, T, S, K, V, E, N of interfaces.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import attrs
from attrs import define, field, frozen
from attrs import validators as v

from accomp.core.music.annotations import NOTHING, Annotations
from accomp.core.music.labels import check_labels
from accomp.core.names import composed

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
    def continuous(self) -> bool:
        """Whether a frame is a latent of E numbers instead of K codes."""
        return self.codebooks == 0

    @property
    def levels(self) -> int:
        """How many things of a frame come one after the other: K codes, or one latent."""
        return self.codebooks or 1

    @property
    def channels(self) -> int:
        """How many numbers `Tokenizer.encode` gives for a frame: K codes, or the E of a latent."""
        return self.codebooks or self.latent_dim

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


def _are_labels(_: object, attribute: attrs.Attribute, labels: object) -> None:
    check_labels(labels)


@frozen
class Stem:
    """One recorded or rendered part of a song.

    Attributes:
        path: of its audio, or of the first of several files that begin together and are summed.
        instrument: one of core.music.instruments.CLASSES, its index.
        name: for people.
        labels: of this stem alone, text by name, before the song's. ValueError for what core.music.labels refuses.
        more: the other files of a stem that has several.
    """

    path: Path
    instrument: int
    name: str = ""
    labels: dict[str, str] = field(factory=dict, validator=_are_labels)
    more: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All its files; `core.audio.io` reads them as one sound."""
        return (self.path, *self.more)


def _composed_keys(stems: dict[str, Stem]) -> dict[str, Stem]:
    return {composed(name): stem for name, stem in stems.items()}


@frozen
class Track:
    """A song: stems that start together.

    Attributes:
        id: its name, unique in its split; accents are composed (Unicode NFC), as are those of the stems' names.
        stems: by a name that is unique in the song.
        labels: of the whole song, text by name, such as genre: "rock"; a spec's [conditions] may ask for them.
        annotations: its beats and chords, where they are known.
    """

    id: str = field(converter=composed)
    stems: dict[str, Stem] = field(converter=_composed_keys)
    source: str = ""
    licence: str = ""
    labels: dict[str, str] = field(factory=dict, validator=_are_labels)
    annotations: Annotations = NOTHING


@frozen(eq=False)
class CodeBatch:
    """Token clips as the loader gives them, before latents are looked up.

    Where the codec's latents are continuous, [B, K, T] int64 is [B, E, T] float32 instead.

    Attributes:
        context: [B, K, T] codes of the input mixture.
        target: [B, K, T] codes of the stem to be played.
        valid: [B, T] bool, frames that count in the loss.
        labels: condition name -> [B] int64 class.
        timelines: condition name -> [B, T, N] float, what is told of each frame (core/music/timelines.py).
    """

    context: Tensor
    target: Tensor
    valid: Tensor
    labels: dict[str, Tensor]
    timelines: dict[str, Tensor] = field(factory=dict)


@frozen(eq=False)
class Batch:
    """What an objective sees: latents x [B, T, E], target codes y [B, K, T], valid [B, T], the rest as in CodeBatch.

    Where the codec's latents are continuous y is the target's latents, [B, E, T] float.
    """

    x: Tensor
    y: Tensor
    valid: Tensor
    labels: dict[str, Tensor]
    timelines: dict[str, Tensor] = field(factory=dict)


class AttentionPattern(NamedTuple):
    """Rows that do not stand in one line: where each lies in the sequence, and which rows it sees.

    Attributes:
        position: [B or 1, S] int64.
        visible: [B or 1, S, S] bool, row i may attend to row j; every row sees itself.
    """

    position: Tensor
    visible: Tensor


@frozen(eq=False)
class Take:
    """One accompaniment to be judged. Audio is float32 mono [N] at `sample_rate`, context and stem of equal length.

    `truth` is the stem that the musicians played, where it is known. `losses` are those of the model that made the
    take, as its objective counts them on the codes of context and true stem: "own", and "swapped" where it is given
    another song's context instead. None for takes that no model made. `stems`: of how many the context is a mixture.
    """

    id: str
    context: np.ndarray
    stem: np.ndarray
    sample_rate: int
    instrument: int
    truth: np.ndarray | None = None
    losses: dict[str, Loss] | None = None
    stems: int = 1


@define(eq=False)  # torch.compile cannot trace how a frozen one is made
class Loss:
    """What an objective minimises, in nats a token, or whatever unit the objective names.

    Attributes:
        total: scalar, to be differentiated.
        parts: detached scalars by name.
        counts: [K], of how many tokens of each level `total` is the mean, so that it can be compared with what knowing
            each level's code frequencies is worth; None where it is no such mean. For latents: of how many frames
            each of the `parts` is the mean.
        right: [K], the share of each level's tokens whose likeliest code is the right one; None where it was not asked
            for, or there is no likeliest code.
    """

    total: Tensor
    parts: dict[str, Tensor]
    counts: Tensor | None = None
    right: Tensor | None = None

    @classmethod
    def over(
        cls, nats: Tensor, counted: Tensor, right: Tensor | None = None, weights: Sequence[float] | None = None
    ) -> Loss:
        """The mean of nats [B, K, S] where `counted` [B, K, S] is true, all levels pooled; `level_q` are those of one.

        right: [B, K, S] bool, whether the likeliest code is the right one. A level without a token counts as 0.
        weights: K of them, how much a token of each level counts in `total`; all alike where not given.
        """
        sums, counts = (nats * counted).sum((0, 2)), counted.sum((0, 2))
        parts = {f"level_{q}": mean for q, mean in enumerate(sums.detach() / counts.clamp(min=1))}
        share = None if right is None else (right & counted).sum((0, 2)) / counts.clamp(min=1)
        if weights is not None:
            each = sums.new_tensor(list(weights))
            return cls((sums * each).sum() / (counts * each).sum().clamp(min=1e-9), parts, None, share)
        return cls(sums.sum() / counts.sum().clamp(min=1), parts, counts, share)
