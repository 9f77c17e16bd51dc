"""The chunked objective: what it counts, chunk by chunk with a state, and that it is `ar` where k = 1."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from attrs import evolve

from accomp.core.clock import Clock
from accomp.core.model.chunks import Chunks, chunk_starts, draw_starts
from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition
from accomp.core.model.model import Model
from accomp.core.model.sequence import DelayPattern
from accomp.core.spec.parsing import Problems, plain, strict_converter, structure_fields
from accomp.core.types import Batch, Loss, TokenSpace
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.gated_add import GatedAdd
from accomp.plugins.objectives.ar import AR
from accomp.plugins.objectives.prefix import Prefix

SPACE = TokenSpace(32000, 640, codebooks=3, codebook_size=7, latent_dim=6)
B, T, WIDTH = 3, 14, 16
CLOCKS = [(-3, 4), (0, 1), (0, 3), (0, 14), (2, 5), (5, 2), (9, 6)]


def model_of(t_f: int, k: int, *, drop: float = 0.0, space: TokenSpace = SPACE) -> Model:
    conditions = Conditions(ContextCondition(drop), {"instrument": LabelCondition(4, drop)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Llama(Llama.Config(depth=2, heads=2), space, WIDTH)
        model = Model(GatedAdd(GatedAdd.Config(), space, WIDTH), backbone, space, Clock(t_f, k), conditions, WIDTH)
        for weight in model.parameters():
            weight.data += 0.2 * torch.randn_like(weight)
    return model


def batch_of(valid_frames: tuple[int, ...] = (T, T, T)) -> Batch:
    rng = torch.Generator().manual_seed(0)
    return Batch(
        x=torch.randn(B, T, 6, generator=rng),
        y=torch.randint(7, (B, 3, T), generator=rng),
        valid=torch.arange(T) < torch.tensor(valid_frames)[:, None],
        labels={"instrument": torch.tensor([0, 3, 1])},
    )


def loss_of(model: Model, batch: Batch, chunks: int | str = "all", seed: int = 0) -> Loss:
    objective = Prefix(Prefix.Config(chunks=chunks), model.space)
    return objective.loss(model, batch, model.clock, torch.Generator().manual_seed(seed))


def nats_of_chunk(model: Model, batch: Batch, s: int) -> list[list[torch.Tensor]]:
    """One chunk alone, row after row through a state, as a session plays it: a list of nats [B] for each level."""
    layout, k = model.layout, model.clock.k
    held, x = layout.inputs_of(batch.y), layout.inputs(batch.x, model.input_padding)
    start, state = model.start(batch.labels), model.backbone.new_state(B, 4 * T)
    nats: list[list[torch.Tensor]] = [[], [], []]
    for row in range(layout.start + s + k):
        fused = row <= layout.start + s
        before = held[:, :, row] if fused else put_out(batch.y, row - 1 - layout.start)
        logits = model.step(x[:, row : row + 1] if fused else None, before[..., None], start, state)
        for q in range(3):
            frame = row - layout.start - q
            if row >= layout.start + s and 0 <= frame < T:
                ids = model.vocabulary.first_code + batch.y[:, q, frame]
                nats[q].append(F.cross_entropy(logits[:, q, 0], ids, reduction="none"))
    return nats


def put_out(y: torch.Tensor, step: int) -> torch.Tensor:
    """[B, K]: y[:, q, step - q], the labels where that is too early."""
    return torch.stack([y[:, q, step - q] if step >= q else torch.full((B,), -1) for q in range(3)], dim=1)


def starts_by_hand(t_f: int, k: int) -> list[int]:
    """Chunks whose steps all have something to predict and the output before, and whose first one has its input."""
    return [s for s in range(0, T + 1, k) if s + k - 1 <= T and s + t_f <= T]


@pytest.mark.parametrize(("t_f", "k"), CLOCKS)
def test_the_loss_is_the_mean_over_every_token_of_the_chunks_that_fit(t_f, k):
    model, batch = model_of(t_f, k), batch_of()
    loss = loss_of(model, batch)
    starts = starts_by_hand(t_f, k)
    assert list(chunk_starts(model.layout, T)) == starts
    levels: list[list[torch.Tensor]] = [[], [], []]
    for s in starts:
        for level, nats in zip(levels, nats_of_chunk(model, batch, s), strict=True):
            level += nats
    assert torch.allclose(loss.total, torch.cat([*levels[0], *levels[1], *levels[2]]).mean(), atol=1e-5)
    for q, level in enumerate(levels):
        assert torch.allclose(loss.parts[f"level_{q}"], torch.cat(level).mean(), atol=1e-5)
    assert loss.counts.tolist() == [len(level) * B for level in levels]


@pytest.mark.parametrize("t_f", [-3, 0, 1, 4])
@pytest.mark.parametrize("valid", [(T, T, T), (T, 5, 0)])
def test_every_chunk_of_one_frame_is_the_frame_by_frame_objective(t_f, valid):
    model, batch = model_of(t_f, 1, drop=0.5), batch_of(valid)
    ours = loss_of(model, batch)
    theirs = AR(AR.Config(), SPACE).loss(model, batch, model.clock, torch.Generator().manual_seed(0))
    assert torch.allclose(ours.total, theirs.total, atol=1e-6)
    assert torch.equal(ours.counts, theirs.counts)
    one = evolve(SPACE, codebooks=1)
    assert list(chunk_starts(DelayPattern(Clock(0, 1), one.codebooks), T)) == list(range(T)), "none without a target"


def test_the_paper_s_chunks_start_at_0_k_to_t_minus_k():
    for k in (1, 2, 4, 7):
        starts = chunk_starts(DelayPattern(Clock(0, k), 4), 28)
        assert list(starts) == list(range(0, (28 if k == 1 else 28 - k) + 1, k)), (
            "k = 1: and the step of the last levels"
        )


def test_each_clip_draws_its_own_chunks_none_twice():
    drawn = draw_starts(range(0, 40, 4), 500, 3, torch.Generator().manual_seed(0))
    assert drawn.shape == (500, 3)
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    counts = torch.bincount(drawn.flatten() // 4, minlength=10)
    assert (counts > 100).all(), "each of 10 chunks about 150 times"
    assert (counts < 200).all()
    for count in (None, 10, 99):
        every = draw_starts(range(0, 40, 4), 2, count, torch.Generator())
        assert every.tolist() == [list(range(0, 40, 4))] * 2


def test_drawn_chunks_are_some_of_all_and_their_mean_is_the_same():
    model, batch = model_of(0, 3), batch_of()
    every = sum(len(level) for s in starts_by_hand(0, 3) for level in nats_of_chunk(model, batch, s)) * B
    assert loss_of(model, batch).counts.sum() == every
    one = [loss_of(model, batch, 1, seed) for seed in range(60)]
    assert {int(loss.counts.sum()) for loss in one} > {B * 9}, "9 tokens a chunk of 3 steps, fewer for the first"
    assert len({loss.total.item() for loss in one}) > 20
    mean = sum(loss.total * loss.counts.sum() for loss in one) / sum(loss.counts.sum() for loss in one)
    assert mean.item() == pytest.approx(loss_of(model, batch).total.item(), rel=0.03)
    assert torch.allclose(loss_of(model, batch, 5).total, loss_of(model, batch).total), "five chunks fit"
    model.eval()
    assert loss_of(model, batch, 1).counts.sum() == every, "validation leaves nothing to chance"


def test_frames_that_are_not_valid_neither_count_nor_are_seen():
    model, short = model_of(-1, 4), batch_of((T, 5, 0))
    y = short.y.clone()
    y[1, :, 5:] = (y[1, :, 5:] + 1) % 7
    y[2] = (y[2] + 3) % 7
    assert torch.equal(loss_of(model, short).total, loss_of(model, evolve(short, y=y)).total)
    assert not torch.equal(loss_of(model, short).total, loss_of(model, batch_of()).total)
    assert loss_of(model, short).counts.tolist() == [12 + 5, 11 + 5, 10 + 5], (
        "steps 0..11 of the first, 5 of the second"
    )


def test_a_chunk_without_valid_frames_costs_nothing():
    loss = loss_of(model_of(0, 4), batch_of((0, 0, 0)), 1)
    assert loss.total == 0
    loss.total.backward()
    assert all(part == 0 for part in loss.parts.values())


@pytest.mark.parametrize(("t_f", "k"), [(0, 4), (-3, 2), (3, 3)])
def test_the_rows_that_do_not_count_need_no_heads(t_f, k):
    model, seen = model_of(t_f, k), []
    model.heads.register_forward_hook(lambda heads, given, out: seen.append(out.shape[1]))
    loss_of(model, batch_of(), 2)
    assert seen == [2 * k]


def test_a_clip_takes_at_most_two_sequences_of_rows():
    for t_f, k in CLOCKS:
        layout = DelayPattern(Clock(t_f, k), 3)
        starts = torch.tensor([list(chunk_starts(layout, T))])
        rows = Chunks(layout, T, starts).sight().position.shape[1]
        assert rows == layout.rows(T) + starts.numel() * (k - 1)
        assert rows <= 2 * (T + 1)


def test_a_clip_shorter_than_a_chunk_is_refused():
    with pytest.raises(ValueError, match=r"no chunk fits in a clip of 14 frames at Clock\(t_f=0, k=16\)"):
        loss_of(model_of(0, 16), batch_of())


def test_how_many_chunks_is_a_number_or_all():
    def read(**table):
        return structure_fields(strict_converter(), table, Prefix.Config)

    assert read() == Prefix.Config(chunks=1)
    assert read(**plain(Prefix.Config("all"))) == Prefix.Config("all")
    for wrong, told in ((0, "at least 1 chunk, or 'all'; got 0"), ("some", "got str 'some'"), (1.5, "got float 1.5")):
        with pytest.raises(Problems, match=told):
            read(chunks=wrong)
