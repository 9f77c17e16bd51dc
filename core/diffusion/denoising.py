"""Denoising of a block: noise levels, the samplers' common keys, and the path from noise to latents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.core.errors import CombinationError
from accomp.core.types import TokenSpace

Schedule = Literal["log_snr", "linear"]


Path = Iterator[Tensor]
"""x after each step."""


def levels(steps: int, schedule: Schedule = "log_snr", start: float = 1.0) -> list[float]:
    """N + 1 noise levels from `start` down to 0, for N steps.

    "log_snr": log((1 - t) / t) evenly spaced from -6 (or that of a `start` below 1) to 2, with the first level set to
    `start` and the last to 0. "linear": t evenly spaced.
    """
    if schedule == "linear":
        return [start * (1 - i / steps) for i in range(steps)] + [0.0]
    first = -6.0 if start == 1.0 else math.log((1 - start) / start)
    between = [1 / (1 + math.exp(first + (2.0 - first) * i / steps)) for i in range(1, steps)]
    return [start, *between, 0.0]


def log_ratio(t: float) -> float:
    """log((1 - t) / t), the logarithm of signal over noise; infinite at the ends."""
    if t in (0.0, 1.0):
        return math.inf if t == 0.0 else -math.inf
    return math.log((1 - t) / t)


@frozen
class Steps:
    """Config fields that all samplers of latents share.

    Attributes:
        steps: N, forwards a block; one more absorbs it.
        schedule: spacing of the noise levels: "log_snr", as trained and published, or "linear".
    """

    steps: int = field(default=8, validator=v.ge(1))
    schedule: Schedule = "log_snr"

    @property
    def levels(self) -> list[float]:
        """N + 1 noise levels, from 1 to 0."""
        return levels(self.steps, self.schedule)


@frozen
class GuidedSteps(Steps):
    """`plus`: CFG++ (arXiv 2406.08070), in which guidance applies to the clean prediction, not to the noise added back.
    Scales are then between 0 and 1; 0.7 is usual.
    """

    plus: bool = False


def check_sampled_space(name: str, space: TokenSpace) -> None:
    """Raise CombinationError for a tokenizer without latents to denoise."""
    if not space.continuous:
        raise CombinationError(
            f"sampler {name!r} denoises continuous latents, the tokenizer has {space.codebooks} codebooks of codes; "
            f"choose a tokenizer of latents (continuous = 32) or a sampler of codes"
        )


def last(path: Path) -> Tensor:
    """Return the end of a path."""
    *_, x = path
    return x
