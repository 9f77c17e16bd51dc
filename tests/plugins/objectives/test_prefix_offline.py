"""The offline prefix decoder's objective: its number by hand, what padding does, and that a clip alone is the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from attrs import evolve

from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition
from accomp.core.model.model import Model
from accomp.core.types import Batch, Loss, TokenSpace
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.gated_add import GatedAdd
from accomp.plugins.objectives.prefix_offline import PrefixOffline

B, T, WIDTH = 3, 9, 16


def model_of(levels: int = 3, drop: float = 0.0) -> Model:
    space = TokenSpace(32000, 640, codebooks=levels, codebook_size=7, latent_dim=6)
    conditions = Conditions(ContextCondition(drop), {"instrument": LabelCondition(4, drop)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Llama(Llama.Config(depth=2, heads=2), space, WIDTH)
        model = Model(GatedAdd(GatedAdd.Config(), space, WIDTH), backbone, space, None, conditions, WIDTH)
        for weight in model.parameters():
            weight.data += 0.2 * torch.randn_like(weight)
    return model


def batch_of(valid_frames: tuple[int, ...] = (T, T, T), levels: int = 3) -> Batch:
    rng = torch.Generator().manual_seed(0)
    return Batch(
        x=torch.randn(B, T, 6, generator=rng),
        y=torch.randint(7, (B, levels, T), generator=rng),
        valid=torch.arange(T) < torch.tensor(valid_frames)[:, None],
        labels={"instrument": torch.tensor([0, 3, 1])},
    )


def loss_of(model: Model, batch: Batch, seed: int = 0) -> Loss:
    objective = PrefixOffline(PrefixOffline.Config(), model.space)
    return objective.loss(model, batch, None, torch.Generator().manual_seed(seed))


def item(batch: Batch, row: int, frames: int = T) -> Batch:
    """One clip of a batch alone, its first `frames`."""
    one = slice(row, row + 1)
    return Batch(
        x=batch.x[one, :frames],
        y=batch.y[one, :, :frames],
        valid=batch.valid[one, :frames],
        labels={name: classes[one] for name, classes in batch.labels.items()},
    )


@pytest.mark.parametrize("levels", [1, 3])
def test_the_loss_is_the_mean_over_every_level_of_every_frame(levels):
    """Row by row through a state: the input, then each step's output before it, PAD (id 0) where a level has ended."""
    model, batch = model_of(levels), batch_of(levels=levels)
    state, start = model.backbone.new_state(B, 3 * T), model.start(batch.labels)
    for t in range(T):
        model.hidden(batch.x[:, t : t + 1], None, state=state)
    nats: list[list[torch.Tensor]] = [[] for _ in range(levels)]
    for step in range(T + levels - 1):
        e = torch.zeros(B, WIDTH)
        for q in range(levels):
            frame = step - 1 - q
            code = torch.where(torch.full((B,), frame < T), model.vocabulary.first_code + batch.y[:, q, frame % T], 0)
            e += start[:, q] if frame < 0 else model.table.weight[q * model.vocabulary.size + code]
        h = model.backbone(model.fuser.fuse(None, e[:, None]), state=state)
        for q in range(levels):
            if 0 <= step - q < T:
                ids = model.vocabulary.first_code + batch.y[:, q, step - q]
                nats[q].append(F.cross_entropy(model.logits(h)[:, q, 0], ids, reduction="none"))
    loss = loss_of(model, batch)
    assert [len(level) for level in nats] == [T] * levels
    assert torch.allclose(loss.total, torch.cat([n for level in nats for n in level]).mean(), atol=1e-5)
    assert loss.counts.tolist() == [T * B] * levels
    for q, level in enumerate(nats):
        assert torch.allclose(loss.parts[f"level_{q}"], torch.cat(level).mean(), atol=1e-5)


def test_a_clip_padded_at_its_end_counts_as_it_would_alone():
    model, batch = model_of(), batch_of((T, 5, 1))
    alone = [loss_of(model, item(batch, row, frames)) for row, frames in enumerate((T, 5, 1))]
    tokens = sum(loss.counts.sum() for loss in alone)
    together = loss_of(model, batch)
    assert torch.allclose(together.total, sum(loss.total * loss.counts.sum() for loss in alone) / tokens, atol=1e-6)
    assert together.counts.sum() == tokens == 3 * (T + 5 + 1)


@pytest.mark.parametrize("holes", [range(5, T), range(3, 5), range(0, 2)])
def test_nothing_of_frames_that_are_not_valid_is_heard_or_seen(holes):
    model = model_of()
    there = torch.tensor([t not in holes for t in range(T)]).expand(B, -1)
    batch = evolve(batch_of(), valid=there)
    x = torch.where(there[..., None], batch.x, 5.0)
    y = torch.where(there[:, None], batch.y, (batch.y + 3) % 7)
    assert torch.equal(loss_of(model, batch).total, loss_of(model, evolve(batch, x=x, y=y)).total)
    other = evolve(batch, x=x.flip(0))
    assert not torch.allclose(loss_of(model, batch).total, loss_of(model, other).total, atol=1e-4)


def test_a_batch_without_valid_frames_costs_nothing():
    loss = loss_of(model_of(), batch_of((0, 0, 0)))
    assert loss.total == 0
    loss.total.backward()
    assert all(part == 0 for part in loss.parts.values())


def test_conditions_are_withheld_as_the_generator_decides():
    model, batch = model_of(drop=0.5), batch_of()
    assert torch.equal(loss_of(model, batch, 1).total, loss_of(model, batch, 1).total)
    assert len({loss_of(model, batch, seed).total.item() for seed in range(8)}) > 3
    nothing_heard = evolve(batch, x=torch.zeros_like(batch.x), labels={"instrument": torch.full((B,), -1)})
    assert torch.equal(loss_of(model_of(drop=1.0), batch).total, loss_of(model_of(), nothing_heard).total)


def test_training_on_it_teaches_to_listen_ahead():
    """The target plays the input backwards: the first frame needs the last of the input."""
    model = model_of()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng = torch.Generator().manual_seed(0)
    table = torch.randn(7, 6, generator=rng)
    losses = []
    for _ in range(100):
        notes = torch.randint(7, (16, 4), generator=rng)
        y = notes.flip(1)[:, None].expand(-1, 3, -1)
        batch = Batch(table[notes], y, torch.ones(16, 4).bool(), {"instrument": torch.zeros(16).long()})
        loss = loss_of(model, batch)
        losses.append(loss.parts["level_0"].item())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert losses[-1] < 1.0, "a uniform guess costs 1.95 nats"
