"""The streaming objective: its number by hand, what it counts, and that training on it teaches."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
import torch.nn.functional as F

from accomp.core.clock import Clock
from accomp.core.errors import CombinationError
from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition
from accomp.core.model.model import Model
from accomp.core.types import Batch, TokenSpace
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.gated_add import GatedAdd
from accomp.plugins.objectives.ar import AR

SPACE = TokenSpace(32000, 640, codebooks=3, codebook_size=7, latent_dim=6)
B, T, WIDTH = 3, 12, 16


def model_of(t_f: int, drop: float = 0.0) -> Model:
    conditions = Conditions(ContextCondition(drop), {"instrument": LabelCondition(4, drop)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Llama(Llama.Config(depth=1, heads=2), SPACE, WIDTH)
        return Model(GatedAdd(GatedAdd.Config(), SPACE, WIDTH), backbone, SPACE, Clock(t_f), conditions, WIDTH)


def batch_of(valid_frames: tuple[int, ...] = (T, T, T)) -> Batch:
    rng = torch.Generator().manual_seed(0)
    return Batch(
        x=torch.randn(B, T, 6, generator=rng),
        y=torch.randint(7, (B, 3, T), generator=rng),
        valid=torch.arange(T) < torch.tensor(valid_frames)[:, None],
        labels={"instrument": torch.tensor([0, 3, 1])},
    )


def loss_of(model: Model, batch: Batch, seed: int = 0):
    return AR(AR.Config(), SPACE).loss(model, batch, model.clock, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("t_f", [-3, 0, 1, 4])
def test_the_loss_is_the_mean_over_every_token_that_a_row_predicts(t_f):
    model, batch = model_of(t_f), batch_of()
    loss = loss_of(model, batch)
    layout = model.layout
    logits = model(batch.x, layout.inputs_of(batch.y), batch.labels)
    levels = []
    for q in range(3):
        nats = []
        for row in range(logits.shape[2]):
            frame = row - layout.start - q
            if 0 <= frame < T:
                ids = model.vocabulary.first_code + batch.y[:, q, frame]
                nats.append(F.cross_entropy(logits[:, q, row], ids, reduction="none"))
        levels.append(torch.cat(nats))
    last = T if t_f <= 0 else T - t_f  # the last step whose input is there
    assert [len(level) // B for level in levels] == [min(T, last + 1 - q) for q in range(3)]
    assert torch.allclose(loss.total, torch.cat(levels).mean(), atol=1e-6)
    for q, level in enumerate(levels):
        assert torch.allclose(loss.parts[f"level_{q}"], level.mean(), atol=1e-6)


def test_frames_that_are_not_valid_neither_count_nor_are_seen():
    model, short = model_of(-1), batch_of((T, 5, 0))
    y = short.y.clone()
    y[1, :, 5:] = (y[1, :, 5:] + 1) % 7
    y[2] = (y[2] + 3) % 7
    assert torch.equal(loss_of(model, short).total, loss_of(model, attrs.evolve(short, y=y)).total)
    assert not torch.equal(loss_of(model, short).total, loss_of(model, batch_of()).total)


def test_a_batch_without_valid_frames_costs_nothing():
    loss = loss_of(model_of(0), batch_of((0, 0, 0)))
    assert loss.total == 0
    loss.total.backward()
    assert all(part == 0 for part in loss.parts.values())


def test_conditions_are_withheld_as_the_generator_decides():
    model, batch = model_of(0, drop=0.5), batch_of()
    assert torch.equal(loss_of(model, batch, 1).total, loss_of(model, batch, 1).total)
    assert len({loss_of(model, batch, seed).total.item() for seed in range(8)}) > 3
    nothing_heard = attrs.evolve(batch, x=torch.zeros_like(batch.x), labels={"instrument": torch.full((B,), -1)})
    assert torch.equal(loss_of(model_of(0, drop=1.0), batch).total, loss_of(model_of(0), nothing_heard).total)


def test_training_on_it_teaches_to_listen():
    """The target repeats the input two frames later; the context and nothing else tells it."""
    model = model_of(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng = torch.Generator().manual_seed(0)
    table = torch.randn(7, 6, generator=rng)
    losses = []
    for _ in range(45):
        notes = torch.randint(7, (16, T), generator=rng)
        y = torch.roll(notes, 2, dims=1)[:, None].expand(-1, 3, -1)
        batch = Batch(table[notes], y, torch.arange(T).expand(16, -1) >= 0, {"instrument": torch.zeros(16).long()})
        loss = loss_of(model, batch)
        losses.append(loss.total.item())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(math.log(model.vocabulary.size), abs=0.5)
    assert losses[-1] < 0.9, "frames 0 and 1 of 12 cannot be known; a uniform guess costs 1.95 nats"


def test_levels_count_as_their_weights_say_and_only_in_training():
    model, batch = model_of(0), batch_of()
    weighted = AR(AR.Config(weights=(1.0, 0.5, 0.0)), SPACE)
    plain = loss_of(model.train(), batch)
    loss = weighted.loss(model, batch, model.clock, torch.Generator().manual_seed(0))
    counts = plain.counts * torch.tensor([1.0, 0.5, 0.0])
    wanted = sum(plain.parts[f"level_{q}"] * counts[q] for q in range(3)) / counts.sum()
    assert torch.allclose(loss.total, wanted, atol=1e-6)
    assert loss.counts is None
    model.eval()
    judged = weighted.loss(model, batch, model.clock, torch.Generator().manual_seed(0))
    assert torch.allclose(judged.total, loss_of(model, batch).total)
    with pytest.raises(CombinationError, match="2 numbers, the codec 3 levels"):
        AR(AR.Config(weights=(1.0, 1.0)), SPACE)
    with pytest.raises(ValueError, match="expected numbers of at least 0"):
        AR.Config(weights=(0.0, -1.0, 1.0))


def test_what_is_forgotten_is_not_seen_but_still_predicted_and_only_in_training():
    model, batch = model_of(0), batch_of()
    torch.nn.init.ones_(model.fuser.gate)  # the output is heard
    objective = AR(AR.Config(forget=1.0), SPACE)
    counts = loss_of(model.train(), batch).counts
    loss = objective.loss(model, batch, model.clock, torch.Generator().manual_seed(3))
    assert torch.equal(loss.counts, counts)
    assert not torch.allclose(loss.total, loss_of(model, batch, 3).total)
    model.eval()
    judged = objective.loss(model, batch, model.clock, torch.Generator().manual_seed(3))
    assert torch.allclose(judged.total, loss_of(model, batch, 3).total)
