"""Interfaces of samplers, one for each kind of decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from accomp.core.keyed_random import KeyedRandom

Decoding = Literal["causal", "masked", "denoised"]
"""Autoregressive decoding, iterative unmasking, or diffusion of continuous latents."""

Draw = Callable[[int], Tensor]
"""0 -> the initial noise of a block [B, E, k], i + 1 -> the noise of step i. Repeated calls return the same values."""


@runtime_checkable
class CausalSampler(Protocol):
    """A sampler of one frame, or one chunk, from its logits.

    Many sessions are batched, each with settings of its own: a sampler may have `controls`, a tuple of keys of its
    Config that `pick` also takes by keyword, as numbers [B]. The usual one is ("temperature",).

    Attributes:
        decoding: "causal".
    """

    decoding: ClassVar[Decoding]

    def pick(self, logits: Tensor, rng: KeyedRandom) -> Tensor:
        """Sample codes. Runs inside the compiled step and leaves its logits unchanged.

        Args:
            logits: [B, K, C].
            rng: random numbers keyed by session and position.

        Returns:
            Codes [B, K] int64.
        """
        ...


class Predict(Protocol):
    """The model as a masked sampler calls it; guidance is applied inside."""

    def __call__(self, canvas: Tensor, level: int) -> Tensor:
        """Predict one level.

        Args:
            canvas: [B, K, T] int64, negative where a code is unknown.
            level: codebook.

        Returns:
            Logits [B, T, C] of that level.
        """
        ...


@runtime_checkable
class MaskedSampler(Protocol):
    """A sampler that fills in masked codes in several passes.

    Attributes:
        decoding: "masked".
    """

    decoding: ClassVar[Decoding]

    def fill(self, predict: Predict, canvas: Tensor, todo: Tensor, rng: KeyedRandom) -> Tensor:
        """Fill in codes.

        Args:
            predict: the model.
            canvas: [B, K, T] int64, negative where a code is unknown.
            todo: [B, K, T] bool, true for the codes to be sampled.
            rng: random numbers keyed by session and position.

        Returns:
            Codes [B, K, T] int64, equal to `canvas` where `todo` is false.
        """
        ...


class Velocities(NamedTuple):
    """Predicted velocities of a block [B, E, k], with guidance and without; equal where there is no guidance."""

    guided: Tensor
    without: Tensor


class Predicting(Protocol):
    """The model as a sampler of latents calls it; guidance is applied inside."""

    def __call__(self, x: Tensor, t: float) -> Velocities:
        """Predict the velocities of x [B, E, k] at noise level t."""
        ...


@runtime_checkable
class DenoisedSampler(Protocol):
    """A diffusion sampler of latent blocks; core/diffusion/denoising.py calls the model and draws the noise.

    Attributes:
        decoding: "denoised".
        levels: N + 1 noise levels, from 1 down to 0; a block takes N forward passes.
        plus: True where the sampler needs the unguided velocity beside the guided one (CFG++).
    """

    decoding: ClassVar[Decoding]
    levels: list[float]
    plus: bool

    def path(self, predict: Predicting, draw: Draw) -> Iterator[Tensor]:
        """Denoise a block that begins as `draw(0)`.

        Args:
            predict: the model.
            draw: the only source of random numbers.

        Returns:
            x [B, E, k] after each of the N steps; the last one is the block.
        """
        ...
