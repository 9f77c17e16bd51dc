"""The masked objective: its number by hand, what it counts and sees, and that training on it teaches."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
import torch.nn.functional as F

from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition
from accomp.core.model.masking import training_mask
from accomp.core.model.model import Model
from accomp.core.types import Batch, Loss, TokenSpace
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.concat import Concat
from accomp.plugins.objectives.mlm import MLM

SPACE = TokenSpace(32000, 640, codebooks=3, codebook_size=7, latent_dim=6)
B, K, T, WIDTH = 3, 3, 12, 16


def model_of(drop: float = 0.0) -> Model:
    conditions = Conditions(
        ContextCondition(drop), {"instrument": LabelCondition(4, drop), "key": LabelCondition(2, drop)}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Llama(Llama.Config(depth=1, heads=2), SPACE, WIDTH)
        model = Model(Concat(Concat.Config(norm=False), SPACE, WIDTH), backbone, SPACE, None, conditions, WIDTH)
        model.table.weight.data.mul_(20.0)  # large enough to be told apart
        return model


def batch_of(valid_frames: tuple[int, ...] = (T, T, T)) -> Batch:
    rng = torch.Generator().manual_seed(0)
    return Batch(
        x=torch.randn(B, T, 6, generator=rng),
        y=torch.randint(7, (B, K, T), generator=rng),
        valid=torch.arange(T) < torch.tensor(valid_frames)[:, None],
        labels={"instrument": torch.tensor([0, 3, 1]), "key": torch.tensor([1, 0, 1])},
    )


def mask_of(seed: int = 0) -> torch.Tensor:
    return torch.rand(B, K, T, generator=torch.Generator().manual_seed(seed)) < 0.5


def loss_of(model: Model, batch: Batch, seed: int = 0) -> Loss:
    return MLM(MLM.Config(), SPACE).loss(model, batch, None, torch.Generator().manual_seed(seed))


def masked_loss(model: Model, batch: Batch, masked: torch.Tensor) -> Loss:
    return MLM(MLM.Config(), SPACE).loss_of(model, batch, masked)


def test_it_is_the_mean_over_masked_codes_of_what_each_frame_predicts_of_itself():
    """Frame by frame and table by table, with the codes alone as classes and a PAD row for each level."""
    model, batch, masked = model_of(), batch_of(), mask_of()
    V, first = model.vocabulary.size, model.vocabulary.first_code
    assert (first, V) == (1 + 4 + 2, 1 + 4 + 2 + 7)
    table = model.table.weight.view(K, V, -1)
    e = sum(torch.where(masked[:, q, :, None], table[q, 0], table[q, first + batch.y[:, q]]) for q in range(K))
    c = sum(table[q, 1 + batch.labels["instrument"]] + table[q, 5 + batch.labels["key"]] for q in range(K))[:, None]
    h = model.backbone(torch.cat([model.fuser.project(batch.x) + c, e + c], dim=-1), causal=False)
    levels = []
    for q in range(K):
        logits = model.heads(h)[..., q * V + first : (q + 1) * V]
        levels.append(F.cross_entropy(logits[masked[:, q]], batch.y[:, q][masked[:, q]], reduction="none"))
    loss = masked_loss(model, batch, masked)
    assert torch.allclose(loss.total, torch.cat(levels).mean(), atol=1e-5)
    for q, level in enumerate(levels):
        assert torch.allclose(loss.parts[f"level_{q}"], level.mean(), atol=1e-5)
    assert loss.counts.tolist() == masked.sum((0, 2)).tolist()


def test_the_mask_is_drawn_after_the_conditions_from_the_same_generator():
    model, batch = model_of(), batch_of()
    rng = torch.Generator().manual_seed(3)
    torch.rand(3 * B, generator=rng)  # context, instrument, key
    assert torch.equal(
        loss_of(model, batch, 3).total, masked_loss(model, batch, training_mask(batch.y.shape, rng)).total
    )


def code_is_seen(model: Model, masked: torch.Tensor, level: int, frame: int, valid: torch.Tensor | None = None) -> bool:
    """Whether a code that no other frame of the batch holds is looked up."""
    batch = batch_of()
    y = batch.y.clamp(max=5)
    y[0, level, frame] = 6
    model.zero_grad()
    masked_loss(model, attrs.evolve(batch, y=y, valid=batch.valid if valid is None else valid), masked).total.backward()
    row = level * model.vocabulary.size + model.vocabulary.first_code + 6
    return bool(model.table.weight.grad[row].any())


@pytest.mark.parametrize(("level", "frame"), [(0, 0), (1, T - 1), (2, 5)])
def test_a_masked_code_is_predicted_from_every_other_one_of_all_frames_and_levels_but_not_from_itself(level, frame):
    model = model_of()
    masked = torch.zeros(B, K, T, dtype=torch.bool)
    masked[0, level, frame] = True
    for q in range(K):
        for t in range(T):
            assert code_is_seen(model, masked, q, t) == ((q, t) != (level, frame)), (q, t)


@pytest.mark.parametrize("frame", [0, 5, T - 1])
def test_every_prediction_hears_the_whole_input_and_the_labels(frame):
    model, batch = model_of(), batch_of()
    masked = torch.zeros(B, K, T, dtype=torch.bool)
    masked[:, 1, frame] = True
    batch.x.requires_grad_()
    masked_loss(model, batch, masked).total.backward()
    assert batch.x.grad.abs().sum(-1).gt(0).all()
    labels = model.table.weight.grad.view(K, model.vocabulary.size, -1)[:, 1:7].abs().sum(-1).gt(0)
    assert labels.tolist() == [[True, True, False, True, True, True]] * K, "instruments 0, 3, 1; keys 1, 0"


def test_frames_that_are_not_valid_neither_count_nor_are_seen():
    model, short = model_of(), batch_of((T, 5, 0))
    y = short.y.clone()
    y[1, :, 5:] = (y[1, :, 5:] + 1) % 7
    y[2] = -9
    for seed in range(4):
        first, second = loss_of(model, short, seed), loss_of(model, attrs.evolve(short, y=y), seed)
        assert torch.equal(first.total, second.total)
        assert not torch.equal(first.total, loss_of(model, batch_of(), seed).total)
    masked = mask_of()
    assert masked_loss(model, short, masked).counts.sum() == masked[0].sum() + masked[1, :, :5].sum()
    assert code_is_seen(model, torch.zeros(B, K, T).bool().index_fill(2, torch.tensor([3]), True), 1, 7)
    assert not code_is_seen(model, torch.zeros(B, K, T).bool(), 1, 7, valid=torch.arange(T).expand(B, T) < 7)


def test_a_clip_padded_at_its_end_counts_as_it_would_alone():
    model, batch, masked = model_of(), batch_of((T, 5, 1)), mask_of()
    alone = []
    for row, frames in enumerate((T, 5, 1)):
        one = slice(row, row + 1)
        labels = {name: classes[one] for name, classes in batch.labels.items()}
        clip = Batch(batch.x[one, :frames], batch.y[one, :, :frames], batch.valid[one, :frames], labels)
        alone.append(masked_loss(model, clip, masked[one, :, :frames]))
    together = masked_loss(model, batch, masked)
    tokens = sum(loss.counts.sum() for loss in alone)
    assert torch.allclose(together.total, sum(loss.total * loss.counts.sum() for loss in alone) / tokens, atol=1e-6)
    assert together.counts.sum() == tokens


def test_a_batch_without_anything_to_guess_costs_nothing():
    for batch, masked in ((batch_of((0, 0, 0)), mask_of()), (batch_of(), torch.zeros(B, K, T).bool())):
        loss = masked_loss(model_of(), batch, masked)
        assert loss.total == 0
        loss.total.backward()
        assert all(part == 0 for part in loss.parts.values())


def test_each_condition_is_withheld_on_its_own():
    """drop = 0.5 of three conditions: some clip hears but is not told, another is told but does not hear."""
    model, batch = model_of(drop=0.5), batch_of()
    heard = set()
    fuse = model.fuser.fuse

    def spy(x, e, c):
        told = c.abs().sum((1, 2)).gt(0)
        heard.update(zip(x.abs().sum((1, 2)).gt(0).tolist(), told.tolist(), strict=True))
        return fuse(x, e, c)

    model.fuser.fuse = spy
    for seed in range(12):
        loss_of(model, batch, seed)
    assert heard == {(hears, told) for hears in (False, True) for told in (False, True)}
    assert len({loss_of(model, batch, seed).total.item() for seed in range(8)}) == 8
    nothing = attrs.evolve(batch, x=torch.zeros_like(batch.x), labels=dict.fromkeys(batch.labels, torch.full((B,), -1)))
    assert torch.equal(loss_of(model_of(drop=1.0), batch).total, loss_of(model_of(), nothing).total)


def test_training_on_it_teaches_to_listen():
    """Level 0 repeats what sounds two frames LATER, and the others copy it: the whole clip must be in sight."""
    model = model_of()
    model.table.weight.data.div_(20.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    rng = torch.Generator().manual_seed(0)
    table = torch.randn(7, 6, generator=rng)
    losses = []
    for step in range(60):
        notes = torch.randint(7, (16, T), generator=rng)
        y = torch.roll(notes, -2, dims=1)[:, None].expand(-1, K, -1)
        labels = {name: torch.zeros(16).long() for name in ("instrument", "key")}
        loss = loss_of(model, Batch(table[notes], y, torch.ones(16, T).bool(), labels), step)
        losses.append(loss.total.item())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(math.log(7), abs=0.4)
    assert sum(losses[-5:]) / 5 < 0.6, "a uniform guess costs 1.95 nats"
