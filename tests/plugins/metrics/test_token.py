"""token: its numbers are those of the losses, every token counting once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from accomp.core.types import Loss, Take, TokenSpace
from accomp.plugins.metrics.token import Token

SPACE = TokenSpace(sample_rate=8000, hop=160, codebooks=2, codebook_size=20, latent_dim=4)


def loss(seed: int, counts: tuple[int, int], more: float = 0.0) -> tuple[Loss, torch.Tensor, torch.Tensor]:
    """A loss, and the nats and hits of the tokens that count, level by level."""
    rng = torch.Generator().manual_seed(seed)
    nats = torch.rand(1, 2, 12, generator=rng) + more
    right = torch.rand(1, 2, 12, generator=rng) < 0.4
    counted = torch.arange(12) < torch.tensor(counts)[None, :, None]
    return Loss.over(nats, counted, right), nats[counted], right[counted]


def take(id: str, own: Loss | None, swapped: Loss | None = None) -> Take:
    losses = {name: one for name, one in (("own", own), ("swapped", swapped)) if one is not None}
    return Take(id, np.zeros(8), np.zeros(8), 8000, 0, losses=losses or None)


def metric() -> Token:
    return Token(Token.Config(), SPACE)


def test_every_token_counts_once() -> None:
    judge = metric()
    (a, a_nats, a_right), (b, b_nats, b_right) = loss(0, (12, 9)), loss(1, (3, 5))
    judge.update(take("a", a))
    judge.update(take("b", b))
    found = judge.result()
    assert found["loss"] == pytest.approx(float(torch.cat([a_nats, b_nats]).mean()), rel=1e-6)
    assert found["accuracy"] == pytest.approx(float(torch.cat([a_right, b_right]).float().mean()), rel=1e-6)
    level = torch.cat([a_nats[:12], b_nats[:3]])
    assert found["loss_level_0"] == pytest.approx(float(level.mean()), rel=1e-6)
    hits = torch.cat([a_right[12:], b_right[3:]]).float()
    assert found["accuracy_level_1"] == pytest.approx(float(hits.mean()), rel=1e-6)
    assert judge.per_take()["b"]["loss"] == pytest.approx(float(b_nats.mean()), rel=1e-6)


def test_the_gain_is_what_the_own_context_is_worth_where_there_is_another() -> None:
    judge = metric()
    own, swapped = loss(0, (12, 12))[0], loss(0, (12, 12), more=0.25)[0]
    judge.update(take("a", own, swapped))
    judge.update(take("b", loss(1, (12, 12))[0]))
    assert judge.result()["context_gain"] == pytest.approx(0.25, rel=1e-5)
    assert "context_gain" not in judge.per_take()["b"]


def test_a_level_of_which_nothing_is_predicted_does_not_count() -> None:
    judge = metric()
    judge.update(take("a", loss(0, (12, 0))[0]))
    assert set(judge.result()) == {"loss", "accuracy", "loss_level_0", "accuracy_level_0"}
    whole, nats, _ = loss(1, (12, 6))
    judge.update(take("b", whole))
    assert judge.result()["loss_level_1"] == pytest.approx(float(nats[12:].mean()), rel=1e-6)


def test_what_tells_nothing_is_refused_with_the_reason() -> None:
    judge = metric()
    with pytest.raises(ValueError, match="no losses of a model"):
        judge.update(take("a", None))
    with pytest.raises(ValueError, match="this clip has no tokens"):
        judge.update(take("a", loss(0, (0, 0))[0]))
    with pytest.raises(ValueError, match="number of tokens"):
        judge.update(take("a", Loss(torch.tensor(1.0), {})))
    with pytest.raises(ValueError, match="not finite"):
        judge.update(take("a", loss(0, (12, 12), more=float("nan"))[0]))
    assert judge.per_take() == {}
    judge.update(take("a", loss(0, (12, 12))[0]))
    with pytest.raises(ValueError, match="twice"):
        judge.update(take("a", loss(0, (12, 12))[0]))
