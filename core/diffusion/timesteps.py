"""Distributions of training noise levels t, as functions of standard normal or uniform numbers, and the shift by
length.

All compute in float64, whose precision the tails of the normal distribution need.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

Name = Literal["uniform", "logit_normal", "trunc_logit_normal", "log_snr", "log_snr_uniform"]
TRUNCATED = 0.075
SHORTEST, LONGEST = 256, 4096


def logit_normal(z: Tensor) -> Tensor:
    """sigmoid(z) of z ~ N(0, 1) (arXiv 2403.03206, section 3.1)."""
    return z.double().sigmoid()


def trunc_logit_normal(z: Tensor) -> Tensor:
    """A logit-normal number above 0.075, mirrored and scaled to [0, 1]: most weight on high noise levels."""
    normal = torch.special.ndtr
    cut = float(normal(torch.tensor(math.log(TRUNCATED / (1 - TRUNCATED)), dtype=torch.float64)))
    s = torch.special.ndtri(cut + (1 - cut) * normal(z.double())).sigmoid()
    return 1 - (s - TRUNCATED) / (1 - TRUNCATED)


def log_snr_normal(z: Tensor, mean: float = -1.2, deviation: float = 2.0) -> Tensor:
    """The t whose log signal-to-noise ratio is mean + deviation z, within [1e-4, 1 - 1e-4]."""
    return (-(mean + deviation * z.double())).sigmoid().clamp(1e-4, 1 - 1e-4)


def log_snr_uniform(u: Tensor, lowest: float = -6.0, highest: float = 2.0) -> Tensor:
    """The t whose log signal-to-noise ratio is u ~ U(0, 1) of the way from `lowest` to `highest`."""
    return (-(lowest + (highest - lowest) * u.double())).sigmoid()


def _normal(of: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda u: of(torch.special.ndtri(u.double()))


DISTRIBUTIONS: Mapping[Name, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "uniform": lambda u: u.double(),
        "logit_normal": _normal(logit_normal),
        "trunc_logit_normal": _normal(trunc_logit_normal),
        "log_snr": _normal(log_snr_normal),
        "log_snr_uniform": log_snr_uniform,
    }
)
"""Uniform numbers in (0, 1) -> noise levels of each distribution, float64."""


def shifted(t: Tensor, length: int) -> Tensor:
    """Shift the noise levels of a sequence of `length` frames: more noise for longer ones (arXiv 2403.03206, sec.
    5.3.2).

    t' = 1 - e^-mu / (e^-mu + t / (1 - t)), mu from 0.5 at 256 frames and fewer to 1.15 at 4096 and more.
    """
    share = (min(max(length, SHORTEST), LONGEST) - SHORTEST) / (LONGEST - SHORTEST)
    left = math.exp(-(0.5 + 0.65 * share))
    return t / (t + left * (1 - t))


def stratified(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """One number from each n-th of (0, 1), n the product of `shape`, in random order: float64 on the rng's device."""
    count = math.prod(shape)
    order = torch.randperm(count, generator=rng, device=rng.device)
    within = torch.rand(count, generator=rng, device=rng.device, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    return ((order + within) / count).view(shape)
