"""Adversarial relativistic contrastive losses (ARC, arXiv 2505.08175) on scores of real and made sequences."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def adversary_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of softplus(-(real - fake)): the adversary scores what is real above what is made (arXiv 1807.00734)."""
    return F.softplus(fake - real).mean()


def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of softplus(real - fake), the other way round."""
    return F.softplus(real - fake).mean()


def contrastive_loss(own: Tensor, others: Tensor) -> Tensor:
    """Mean of softplus(-(own - others)): real sequences score higher beside what they were played to.

    own: scores with their own condition, others: with another item's. It makes the adversary listen.
    """
    return F.softplus(others - own).mean()
