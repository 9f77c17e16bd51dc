"""Rectified flow (arXiv 2209.03003): x_t = (1 - t) x_0 + t eps, eps ~ N(0, I), t in [0, 1]; t = 1 is noise.

A model predicts the velocity v = eps - x_0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def noised(clean: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
    """x_t."""
    return (1 - t) * clean + t * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """v, the target of the model."""
    return noise - clean


def clean_of(x: Tensor, v: Tensor, t: Tensor | float) -> Tensor:
    """x_0 = x_t - t v."""
    return x - t * v


def noise_of(x: Tensor, v: Tensor, t: Tensor | float) -> Tensor:
    """eps = x_t + (1 - t) v."""
    return x + (1 - t) * v


def log_snr(t: Tensor) -> Tensor:
    """log((1 - t) / t): infinite at 0, minus infinite at 1."""
    return torch.log1p(-t) - t.log()


def marginal_loss(variance: Tensor, t: Tensor) -> Tensor:
    """Mean squared error at t of the best estimate from mean and variance of normally distributed latents alone.

    s^2 / ((1 - t)^2 s^2 + t^2) where the variance is s^2; shapes broadcast. 0 for a variance of 0.
    """
    return variance / ((1 - t) ** 2 * variance + t**2).clamp(min=torch.finfo(variance.dtype).tiny)
