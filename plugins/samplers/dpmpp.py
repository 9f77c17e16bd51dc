"""DPM-Solver++, the second-order multistep solver."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

from attrs import frozen

from accomp.plugin import Decoding, Draw, Predicting, TokenSpace
from accomp.plugin.diffusion import Path, Steps, check_sampled_space, clean_of, log_ratio


class Dpmpp:
    """DPM-Solver++ 2M (arXiv 2211.01095, algorithm 2) for rectified flow: signal 1 - t, noise t.

    x <- (s / t) x - (1 - s) (e^-h - 1) d, h the step in log((1 - t) / t), d = x_0 + (x_0 - x_0') h / (2 h') with x_0'
    and h' of the previous step; d = x_0 in the first and last step, and after a first step from pure noise.
    """

    decoding: ClassVar[Decoding] = "denoised"
    plus: ClassVar[bool] = False

    @frozen
    class Config(Steps):
        """`steps` and `schedule`, see core/diffusion/denoising.py."""

    def __init__(self, config: Config, space: TokenSpace):
        """Raises CombinationError for a space of codes."""
        check_sampled_space("dpmpp", space)
        self.levels = config.levels

    def path(self, predict: Predicting, draw: Draw) -> Path:
        """Yield x [B, E, k] after each step, starting from `draw(0)`."""
        x, before, h_before = draw(0), None, math.inf
        for t, s in pairwise(self.levels):
            clean = clean_of(x, predict(x, t).guided, t)
            h = log_ratio(s) - log_ratio(t)
            d = clean if before is None or not s else clean + (clean - before) * (h / (2 * h_before))
            x = (s / t) * x - (1 - s) * math.expm1(-h) * d
            before, h_before = clean, h
            yield x
