"""Ping-pong sampling for few-step models: each step predicts the clean latents and adds new noise of a lower level."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from attrs import frozen

from accomp.plugin import Decoding, Draw, Predicting, TokenSpace
from accomp.plugin.diffusion import GuidedSteps, Path, check_sampled_space, clean_of, noised


class PingPong:
    """x_0 = x - t v; x <- (1 - s) x_0 + s eps with new noise eps (consistency sampling, arXiv 2303.01469, algorithm 1).

    Without adversarial training the clean prediction is a conditional mean, and the result is blurred; with it, the
    prediction is a sample. With `plus` (CFG++, arXiv 2406.08070) x <- x_0 + s (eps - x_0'), x_0
    guided and x_0' not.
    """

    decoding: ClassVar[Decoding] = "denoised"

    @frozen
    class Config(GuidedSteps):
        """`steps`, `schedule` and `plus`, see core/diffusion/denoising.py."""

    def __init__(self, config: Config, space: TokenSpace):
        """Raises CombinationError for a space of codes."""
        check_sampled_space("ping_pong", space)
        self.levels, self.plus = config.levels, config.plus

    def path(self, predict: Predicting, draw: Draw) -> Path:
        """Yield x [B, E, k] after each step, starting from `draw(0)`."""
        x = draw(0)
        for number, (t, s) in enumerate(pairwise(self.levels)):
            guided, without = predict(x, t)
            clean = clean_of(x, guided, t)
            if not s:
                x = clean
            elif self.plus:
                x = clean + s * (draw(number + 1) - clean_of(x, without, t))
            else:
                x = noised(clean, draw(number + 1), s)
            yield x
