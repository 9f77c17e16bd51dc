"""Stretches of the past that a model is not told in training: how many, how long, and what they leave alone."""

from __future__ import annotations

import torch

from accomp.core.model.past_dropout import SHORTEST, drop_past
from accomp.core.model.tokens import PADDING

FRAMES = 80


def test_as_many_clips_as_asked_for_miss_one_stretch_of_all_levels():
    y = torch.arange(2 * FRAMES).view(1, 2, FRAMES).repeat(4000, 1, 1)
    told = drop_past(y, 0.3, torch.Generator().manual_seed(0))
    missing = told == PADDING
    assert torch.equal(told[~missing], y[~missing])
    assert torch.equal(missing[:, 0], missing[:, 1])
    lengths, stretches = missing[:, 0].sum(1), missing[:, 0].diff(dim=1, prepend=torch.zeros(4000, 1, dtype=torch.bool))
    some = lengths > 0
    assert abs(float(some.float().mean()) - 0.3) < 0.03
    assert int((stretches & missing[:, 0]).sum(1).max()) == 1, "one stretch, not several"
    found = lengths[some].float() / FRAMES
    assert float(found.min()) >= SHORTEST - 1 / FRAMES
    assert float(found.max()) > 0.99
    assert abs(float(found.mean()) - (1 + SHORTEST) / 2) < 0.03
    assert missing[some, 0].float().mean(0).min() > 0.04, "no place is always told"


def test_nothing_is_missing_at_a_share_of_nothing_and_something_everywhere_at_all():
    y = torch.zeros(50, 4, FRAMES, dtype=torch.int64)
    assert torch.equal(drop_past(y, 0.0, torch.Generator()), y)
    assert bool((drop_past(y, 1.0, torch.Generator()) == PADDING).any(2).all())
