"""Sums of which some terms may be absent."""

import torch

from accomp.core.tensors import total


def test_what_is_there_is_added_up_and_nothing_is_none():
    a, b = torch.randn(2, 5, 3), torch.randn(2, 1, 3)
    assert torch.equal(total(a, None, b), a + b)
    assert torch.equal(total(None, b), b)
    assert total(None, None) is None
    assert total() is None
