"""Euler integration of the velocity."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from attrs import frozen

from accomp.plugin import Decoding, Draw, Predicting, TokenSpace
from accomp.plugin.diffusion import GuidedSteps, Path, check_sampled_space, clean_of


class Euler:
    """x <- x + (s - t) v from noise level t to s; with `plus`, x <- (x - t v_w) + s v_0 (CFG++, arXiv 2406.08070).

    v_w is the guided velocity, v_0 the unguided one.
    """

    decoding: ClassVar[Decoding] = "denoised"

    @frozen
    class Config(GuidedSteps):
        """`steps`, `schedule` and `plus`, see core/diffusion/denoising.py."""

    def __init__(self, config: Config, space: TokenSpace):
        """Raises CombinationError for a space of codes."""
        check_sampled_space("euler", space)
        self.levels, self.plus = config.levels, config.plus

    def path(self, predict: Predicting, draw: Draw) -> Path:
        """Yield x [B, E, k] after each step, starting from `draw(0)`."""
        x = draw(0)
        for t, s in pairwise(self.levels):
            guided, without = predict(x, t)
            x = clean_of(x, guided, t) + s * without if self.plus else x + (s - t) * guided
            yield x
