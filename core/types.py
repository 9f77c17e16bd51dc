"""Values that the parts of accomp exchange. Frozen; shape letters B, T, S, K, V, E, N as in core/interfaces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """The code format of a tokenizer, detailed enough to refuse the tokens of another codec.

    Attributes:
        sample_rate: Hz.
        hop: samples a frame.
        codebooks: K, RVQ levels that are modelled; 0 for a tokenizer of continuous latents.
        codebook_size: C, codes a level; 0 for continuous latents.
        latent_dim: E, width of `Tokenizer.embed`.
        lookahead: samples of audio after a frame's last sample that its code depends on; 0 is causal.
        delay: samples by which decoding lags: sample n of the output needs frames up to (n + delay) // hop.

    Example:
        space = TokenSpace(sample_rate=16000, hop=640, codebooks=4, codebook_size=1024, latent_dim=128)
        assert space.frames(16000) == 25 and space.frame_rate == 25.0
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
        """True for latents of E numbers a frame instead of K codes."""
        return self.codebooks == 0

    @property
    def levels(self) -> int:
        """Number of successive predictions a frame: K codes, or one latent."""
        return self.codebooks or 1

    @property
    def channels(self) -> int:
        """Numbers a frame that `Tokenizer.encode` returns: K codes, or the E of a latent."""
        return self.codebooks or self.latent_dim

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz)."""
        return self.sample_rate / self.hop

    def frames(self, samples: int) -> int:
        """Count the frames that cover a clip.

        Args:
            samples: N.

        Returns:
            ceil(N / hop).
        """
        return -(-samples // self.hop)

    def fingerprint(self) -> str:
        """Hash all fields.

        Returns:
            16 hexadecimal digits; equal spaces have equal fingerprints.
        """
        return hashlib.sha256(json.dumps(attrs.asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def _are_labels(_: object, attribute: attrs.Attribute, labels: object) -> None:
    check_labels(labels)


@frozen
class Stem:
    """One recorded or rendered part of a song.

    Attributes:
        path: audio file; the first one of a stem whose several files begin together and are summed.
        instrument: index in core.music.instruments.CLASSES.
        name: display name.
        labels: labels of this stem, text by name; they take precedence over the song's.
        more: the other files of a stem of several files.

    Raises:
        ValueError: labels that core.music.labels refuses.
    """

    path: Path
    instrument: int
    name: str = ""
    labels: dict[str, str] = field(factory=dict, validator=_are_labels)
    more: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the stem; `core.audio.io.read` sums them."""
        return (self.path, *self.more)


def _composed_keys(stems: dict[str, Stem]) -> dict[str, Stem]:
    return {composed(name): stem for name, stem in stems.items()}


@frozen
class Track:
    """A song: stems that start together.

    Attributes:
        id: name, unique in its split; normalised to Unicode NFC, as are the names of the stems.
        stems: stems by name, unique in the song.
        source: name of the corpus.
        licence: licence of the recording.
        labels: labels of the whole song, text by name, such as genre: "rock"; [conditions] of a spec refers to them.
        annotations: beats and chords, where they are known.
    """

    id: str = field(converter=composed)
    stems: dict[str, Stem] = field(converter=_composed_keys)
    source: str = ""
    licence: str = ""
    labels: dict[str, str] = field(factory=dict, validator=_are_labels)
    annotations: Annotations = NOTHING


@frozen(eq=False)
class CodeBatch:
    """A batch of token clips, as the loader returns it, before embedding.

    For continuous latents, [B, K, T] int64 is [B, E, T] float32 instead.

    Attributes:
        context: [B, K, T] codes of the input mixture.
        target: [B, K, T] codes of the stem to be predicted.
        valid: [B, T] bool, frames that count in the loss.
        labels: condition name -> [B] int64 class.
        timelines: condition name -> [B, T, N] float, features of each frame (core/music/timelines.py).
    """

    context: Tensor
    target: Tensor
    valid: Tensor
    labels: dict[str, Tensor]
    timelines: dict[str, Tensor] = field(factory=dict)


@frozen(eq=False)
class Batch:
    """A batch as an objective takes it. Continuous targets are latents [B, E, T] float instead of codes.

    Attributes:
        x: [B, T, E] input latents.
        y: [B, K, T] target codes.
        valid: [B, T] bool, frames that count in the loss.
        labels: condition name -> [B] int64 class.
        timelines: condition name -> [B, T, N] float.
        truth: the timelines before any was withheld; empty before `withhold`.
        by_ear: condition name -> [B] bool, clips in which the model's ear (core/model/ear.py) supplies it if not given.
    """

    x: Tensor
    y: Tensor
    valid: Tensor
    labels: dict[str, Tensor]
    timelines: dict[str, Tensor] = field(factory=dict)
    truth: dict[str, Tensor] = field(factory=dict)
    by_ear: dict[str, Tensor] = field(factory=dict)


Rule = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""Visibility as arithmetic: rule(b, i, j) -> bool, whether row i of item b may attend to row j; all int64, and they
broadcast."""


@define(eq=False)  # torch.compile cannot trace the construction of a frozen class
class AttentionPattern:
    """Positions and attention mask of rows that do not follow one another.

    Attributes:
        position: [B or 1, S] int64, position of each row in the sequence.
        blocks: the mask as a BlockMask of torch's flex_attention, which skips what no row attends to; None where none
            was made (core/model/attention_tiles.py). A backbone may use it instead of `visible`.
    """

    position: Tensor
    _visible: Tensor | Rule
    blocks: Any = None

    @property
    def visible(self) -> Tensor:
        """The mask [B or 1, S, S] bool: row i may attend to row j; every row attends to itself.

        Computed here, in full, where the pattern was given as a rule.
        """
        if not callable(self._visible):
            return self._visible
        import torch  # imported late: plugins that only describe songs do not need it

        items, rows = (torch.arange(size, device=self.position.device) for size in self.position.shape)
        return self._visible(items[:, None, None], rows[:, None], rows)

    @property
    def rule(self) -> Rule:
        """The mask as a rule."""
        given = self._visible
        if callable(given):
            return given
        return lambda b, i, j: given[b, i, j]


@frozen(eq=False)
class Take:
    """One accompaniment with its context, to be scored. Audio is float32 mono [N] at `sample_rate`.

    Attributes:
        id: name, unique in its set.
        context: [N] mixture that was accompanied.
        stem: [N] accompaniment.
        sample_rate: Hz.
        instrument: index in core.music.instruments.CLASSES.
        truth: [N] the recorded stem, where it is known.
        losses: losses of the model on the codes of context and recorded stem: "own", and "swapped" with the context of
            another song. None where no model made the take.
        stems: number of stems in the context.
    """

    id: str
    context: np.ndarray
    stem: np.ndarray
    sample_rate: int
    instrument: int
    truth: np.ndarray | None = None
    losses: dict[str, Loss] | None = None
    stems: int = 1


@define(eq=False)  # torch.compile cannot trace the construction of a frozen class
class Loss:
    """The value that an objective minimises, in nats a token or in the objective's own unit.

    Attributes:
        total: scalar, differentiable.
        parts: detached scalars by name.
        counts: [K] tokens of each level that `total` is the mean of, for comparison with the loss of a unigram
            predictor;
            None where `total` is no such mean. For latents: frames that each of `parts` is the mean of.
        right: [K] accuracy, the share of tokens of each level whose likeliest code is correct; None where it was not
            computed or is undefined.
    """

    total: Tensor
    parts: dict[str, Tensor]
    counts: Tensor | None = None
    right: Tensor | None = None

    def beside(self, errors: Mapping[str, Tensor], addend: Tensor | None) -> Loss:
        """This loss with the errors of what learns beside the model, as parts.

        addend: what they add to `total`, which is no mean over tokens then; None where they do not count.
        """
        parts = {**self.parts, **{name: error.detach() for name, error in errors.items()}}
        if addend is None:
            return Loss(self.total, parts, self.counts, self.right)
        return Loss(self.total + addend, parts)

    @classmethod
    def over(
        cls, nats: Tensor, counted: Tensor, right: Tensor | None = None, weights: Sequence[float] | None = None
    ) -> Loss:
        """Average a loss over tokens, all levels pooled; the parts `level_q` average one level each.

        Args:
            nats: [B, K, S] loss of each token.
            counted: [B, K, S] bool, tokens that count.
            right: [B, K, S] bool, true where the likeliest code is correct.
            weights: K weights of the levels in `total`; equal where None.

        Returns:
            The mean; a level without tokens contributes 0.
        """
        sums, counts = (nats * counted).sum((0, 2)), counted.sum((0, 2))
        parts = {f"level_{q}": mean for q, mean in enumerate(sums.detach() / counts.clamp(min=1))}
        share = None if right is None else (right & counted).sum((0, 2)) / counts.clamp(min=1)
        if weights is not None:
            each = sums.new_tensor(list(weights))
            return cls((sums * each).sum() / (counts * each).sum().clamp(min=1e-9), parts, None, share)
        return cls(sums.sum() / counts.sum().clamp(min=1), parts, counts, share)
