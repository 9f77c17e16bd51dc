"""Cross entropy as the compiler is given it is torch's cross entropy, and so are its gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from accomp.core.model.model import nats_of


def found(logits: Tensor, ids: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The nats, and the gradient of their weighted sum."""
    logits = logits.clone().requires_grad_()
    nats = nats_of(logits, ids)
    (nats * weight).sum().backward()
    assert logits.grad is not None
    return nats.detach(), logits.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_it_is_torchs_cross_entropy(scale, dtype, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(2, 3, 4, 7, generator=generator) * scale).to(dtype)
    ids, weight = torch.randint(7, (2, 3, 4), generator=generator), torch.randn(2, 3, 4, generator=generator)
    eager = found(logits, ids, weight)
    wanted = F.cross_entropy(logits.float().flatten(0, -2), ids.flatten(), reduction="none").view(2, 3, 4)
    torch.testing.assert_close(eager[0], wanted)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for one, other in zip(found(logits, ids, weight), eager, strict=True):
        torch.testing.assert_close(one, other)
        assert one.dtype == other.dtype
