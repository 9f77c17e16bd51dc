"""What a plugin must offer, kind by kind.

Letters: B batch, T frames, S positions of a sequence, K codebooks, C codes a codebook, V vocabulary, E latent
width, D model width, N samples. Construction is uniform: every plugin has a nested frozen attrs class `Config`
(what a spec file may say) and is built by keyword:

    corpus, tokenizer, embedder cls(config)
    follower                    cls(config, sample_rate)        of the sound that it hears, Hz
    sampler, objective, metric  cls(config, space)
    fuser, backbone             cls(config, space, width)       width is D
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from accomp.core.types import Batch, Loss, Sight, Take, TokenSpace, Track

if TYPE_CHECKING:
    import numpy as np
    import torch

    from accomp.core.annotations import Annotations
    from accomp.core.diffusion.denoising import Draw, Predicting
    from accomp.core.model import Model
    from accomp.core.streaming.clock import Clock
    from accomp.core.streaming.noise import Noise

Decoding = Literal["causal", "masked", "denoised"]
"""Codes one after the other, codes filled in, or continuous latents out of noise."""


@runtime_checkable
class Stream(Protocol):
    """A tokenizer working as the sound arrives. The rows of a batch advance together.

    An encoder stream takes audio [B, n] (any n >= 0) and returns codes [B, K, m]; a decoder stream takes codes
    [B, K, m] and returns audio [B, n]. What all pushes and the final flush return, joined, equals the offline
    result: codes exactly, audio within 1e-4. State lives here and nowhere else.
    """

    def push(self, chunk: Tensor) -> Tensor: ...
    def flush(self) -> Tensor:
        """The rest: a last partial frame padded with zeros, or the decoder's delayed tail."""
        ...

    def reset(self, rows: Tensor) -> None:
        """Forget the history of the rows where the bool mask [B] is true; the others go on unchanged."""
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """A frozen audio codec. `name` and `fingerprint` say which one: a hash of all that makes codes, and the vectors
    that they stand for, so that what decodes may get better while token stores and models stay as they are.

    A tokenizer of continuous latents (a space without codebooks) gives and takes latents [B, E, T] float32 wherever
    others have codes [B, K, T]. They are about normal with unit variance, which diffusion assumes, and numbers that
    float16 holds, so that a store keeps just what a live stream gives; `embed` only turns them round.

    The class also offers a classmethod space_of(config) -> TokenSpace, which knows the space without loading weights: a
    spec's durations are turned into frames by it. It may also have

        prepare(batch, frames)  compile, now, what streams of `batch` rows compute with pushes of about `frames` frames:
                    streams opened from then on use it, and nothing is compiled while they work. Those of other sizes of
                    batch, and pushes for which it is not faster, work as before; what comes out is the same. Raises
                    PluginError, saying why and what to do, where that cannot be; then nothing has changed.
        decoder_fingerprint     a hash of all that decides what codes sound like; see decoder_fingerprint_of.
    """

    space: TokenSpace
    name: str
    fingerprint: str

    def encode(self, audio: Tensor) -> Tensor:
        """audio [B, N] float in [-1, 1] -> codes [B, K, ceil(N / hop)] int64, or latents [B, E, ceil(N / hop)]."""
        ...

    def embed(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] -> latents [B, T, E], the sum over levels."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] -> audio [B, T * hop]."""
        ...

    def encoder(self, batch: int = 1) -> Stream: ...
    def decoder(self, batch: int = 1) -> Stream: ...
    def to(self, device: torch.device | str) -> Tokenizer: ...


def decoder_fingerprint_of(tokenizer: Tokenizer) -> str:
    """What the sound of codes depends on: the fingerprint, where a tokenizer does not tell the two apart."""
    found: str = getattr(tokenizer, "decoder_fingerprint", tokenizer.fingerprint)
    return found


class Fuser(nn.Module):
    """Joins input latents and output embeddings, position by position (frame-local).

    Attributes: `embed_width` De, the width it wants the output embeddings in.
    """

    embed_width: int

    def fuse(self, x: Tensor | None, e: Tensor | None, c: Tensor | None = None) -> Tensor:
        """x [B, S, E] or None (positions without input), e [B, S, De] or None (without output) -> h [B, S, D].

        Never both None. c [B, 1, De] is what the labels add to every position, None where they enter otherwise.
        """
        raise TypeError(f"{type(self).__name__} has no fuse")


@runtime_checkable
class State(Protocol):
    """Keys, values and positions of the sessions of one batch. Memory is constant however long they last."""

    position: Tensor
    """[B] int64: how many positions each row has absorbed."""

    def rollback(self, position: Tensor) -> None:
        """Forget everything from `position` [B] on; never further back than the last chunk.

        Below 0 only for a row that begins anew: positions before the beginning are seen by no other.
        """
        ...

    def reset(self, rows: Tensor) -> None:
        """Start the rows where the bool mask [B] is true anew; the others go on unchanged."""
        ...


class Backbone(nn.Module):
    """The sequence model between fuser and heads."""

    def forward(
        self, h: Tensor, *, causal: bool = True, state: State | None = None, sight: Sight | None = None
    ) -> Tensor:
        """h [B, S, D] -> [B, S, D]. With a state, the S positions follow those the state has absorbed.

        With a state and `causal` False the rows of a call see what its last row sees: themselves, one another, and the
        window that ends with them. A `sight` says instead, row by row, where each lies and what it sees; it excludes a
        state.
        """
        raise TypeError(f"{type(self).__name__} has no forward")

    def new_state(
        self,
        batch: int,
        window: int,
        *,
        chunk: int = 1,
        pinned: range = range(0),
        dtype: torch.dtype | None = None,
    ) -> State:
        """A state of static size: a position attends to the last `window` positions and, always, to the `pinned` ones.

        `chunk` is the largest S of a call; the ring holds window + chunk - 1 positions. dtype: what it remembers in,
        torch.int8 included; that of the arithmetic where None.
        """
        raise TypeError(f"{type(self).__name__} has no new_state")


@runtime_checkable
class Objective(Protocol):
    """What training minimises, and therefore how a trained model decodes."""

    decoding: ClassVar[Decoding]
    """Which samplers can play the model."""
    chunked: ClassVar[bool]
    """False where the model can only emit frame by frame (k = 1)."""
    clocked: ClassVar[bool]
    """True where a clock (t_f, k) says what a prediction may see: the model can stream. False: it hears whole clips."""

    # An objective that counts in something else than nats a token says `unit`; one for continuous latents has, beside
    # it, `line(variance [E]) -> {"loss", "parts"}`: what knowing mean and variance of latents alone is worth.

    # An objective with an adversary has `adversary(model)`, its module, `turn(step)`, whose step it is ("generator" for
    # the model's), and `turn_loss(turn, model, adversary, batch, rng, shared)`; plugins/objectives/arc_forcing.py is
    # one. Where `judged_by` is "newest" the newest checkpoint plays, not that of the lowest validation loss.

    # An objective whose training is to be compiled has `loss_of(...)`, too: what `loss` calls when it has drawn all it
    # draws, with tensors whose shapes depend on the batch's alone. It makes one graph, with no look at their values.

    def loss(self, model: Model, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """What is minimised. `clock` is that of the model, None exactly where the objective is not `clocked`."""
        ...


@runtime_checkable
class CausalSampler(Protocol):
    """Many sessions play in one batch, each to its own taste: a sampler may name `dials`, settings of its Config that
    `pick` also takes by name, as numbers [B]. The usual one is ("temperature",)."""

    decoding: ClassVar[Decoding]

    def pick(self, logits: Tensor, rng: Noise) -> Tensor:
        """logits [B, K, C] -> codes [B, K] int64. Does not change its logits; runs inside the compiled step."""
        ...


@runtime_checkable
class MaskedSampler(Protocol):
    decoding: ClassVar[Decoding]

    def fill(self, predict: Predict, canvas: Tensor, todo: Tensor, rng: Noise) -> Tensor:
        """canvas [B, K, T], todo [B, K, T] bool -> codes [B, K, T] int64: `canvas` where there was nothing to do."""
        ...


@runtime_checkable
class DenoisedSampler(Protocol):
    """From noise to the latents of a block; how the model is asked, and by which noise, is core/diffusion/denoising.py.

    Attributes:
        levels: N + 1 noise levels, from 1 down to 0; N forwards make a block.
        plus: whether it needs the velocity without what is guided by beside the guided one (CFG++).
    """

    decoding: ClassVar[Decoding]
    levels: list[float]
    plus: bool

    def path(self, predict: Predicting, draw: Draw) -> Iterator[Tensor]:
        """What x [B, E, k] is after each step, from `draw(0)` on; the last is the block. Numbers belong to `draw`."""
        ...


class Predict(Protocol):
    """The model as a masked sampler sees it; guidance is inside."""

    def __call__(self, canvas: Tensor, level: int) -> Tensor:
        """canvas [B, K, T] int64, negative where unknown -> logits [B, T, C] of one level."""
        ...


@runtime_checkable
class Metric(Protocol):
    """A judgement over takes. One instance judges one set of takes.

    It may also have
        needs       frozenset of what a take must carry beside its audio: "truth", "losses" (see Take). Where no clip of
                    a cell has it, the metric does not apply there, and the record says so;
        as_played   True where levels matter: it hears takes as they were played, not at the loudness of [evaluate];
        provenance  a line for the report on the models it uses and their licence;
        fresh()     -> Metric, an empty one for another set of takes that shares what was dear to load or find out;
        cache_in(folder)  is called once, before the first take: there it may keep what was dear to find out for other
                    runs, by the hash of all that it depends on, written so that many processes may do so at once;
        resamples   int, bootstrap resamples behind its intervals: 2000 where not given; a slow `result` asks for fewer;
        answers     number -> what a player does well where that is good: {"beat_f1": "in time"}; the report then asks
                    whether the model's is surely better than random pairing's;
        interval    "bootstrap", or "jackknife" (delete-a-group, over takes) for statistics that takes which come twice
                    would bias, such as distances between sets.
    """

    sample_rate: int
    """Hz; the runner resamples takes to it before `update`."""

    best: ClassVar[dict[str, float]]
    """The value of each number when the stem is the context itself, where that is known."""

    def update(self, take: Take) -> None:
        """Take in a take. Then it counts as scored.

        Raises core.errors.EmptyClip where there is nothing to judge (silence): the take is counted as empty, by name;
        ValueError, with the reason, for a take that cannot be judged: it is counted as failed, by name.
        """
        ...

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        """Numbers by name over these takes by id, all of them where None is given.

        An id that comes twice counts twice: the runner makes intervals with that. Raises ValueError where there are no
        numbers, since no take was given or too few.
        """
        ...

    def per_take(self) -> dict[str, dict[str, float]]:
        """Take id -> the numbers of that take alone; {} for each in metrics of sets."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """A frozen network that hears patches of sound as points; sets of sounds are compared by such points."""

    sample_rate: int
    """Hz, that of the audio it is given."""

    fingerprint: str
    """Whatever decides its answers, in a line: name, version, hash of the weights, settings. Answers are kept by it."""

    provenance: str
    """A line for reports: the network, where its weights come from and their licence, the patches."""

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """audio [N] float32 in [-1, 1] -> [n, D] float32, a row a patch, D always the same.

        Raises ValueError, with the length that is needed, for audio that is shorter than a patch.
        """
        ...


@runtime_checkable
class Follower(Protocol):
    """Hears music as it comes, and knows at any time what there is to say of it: its beats, or its chords.

    A follower hears one sound at a time. What it knows depends on what was pushed since the beginning and on nothing
    else, not even on how that was cut, and the room that it takes on what was pushed last.
    """

    follows: str
    """The timeline that it follows, "metronome" or "chart"."""

    fingerprint: str
    """Whatever decides what it hears, in a line: library, version, settings. Takes remember it."""

    provenance: str
    """A line for people: who hears, where weights come from and their licence."""

    def begin(self) -> None:
        """Forget everything."""
        ...

    def push(self, audio: np.ndarray) -> None:
        """audio [n] float32 in [-1, 1], any n: what comes next."""
        ...

    def known(self) -> Annotations:
        """What is known now; times in s from the first sample that was pushed. NOTHING before anything was found.

        "metronome": a beat grid that goes on as it is heard to be. "chart": the chords of the last minutes, of which
        the last one ends where hearing does, some time ago.
        """
        ...


@runtime_checkable
class Corpus(Protocol):
    """Songs of stems on disk."""

    splits: tuple[str, ...]
    """Names in order, for instance ("train", "validation", "test")."""

    problems: list[str]
    """A line for each song, stem or label that `tracks` left out so far, with the reason and where; none twice."""

    # A corpus that guesses has `notes`, too: lines that say what, for `accomp ingest` and `accomp corpus inspect`.

    def tracks(self, split: str) -> Iterator[Track]:
        """Songs of a split in a fixed order. Raises DataError for a missing folder, an unknown or an empty split."""
        ...
