"""Adversarial relativistic contrastive losses (ARC, arXiv 2505.08175) on scores of real and generated sequences."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def adversary_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of softplus(-(real - fake)): the discriminator scores real above generated (arXiv 1807.00734)."""
    return F.softplus(fake - real).mean()


def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of softplus(real - fake), the other way round."""
    return F.softplus(real - fake).mean()


def contrastive_loss(own: Tensor, others: Tensor) -> Tensor:
    """Mean of softplus(-(own - others)): real sequences score higher with their own condition.

    own: scores with their own condition, others: with another item's. The term makes the discriminator use the input.
    """
    return F.softplus(others - own).mean()
