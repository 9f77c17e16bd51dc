"""Heads that look ahead: their targets by hand, that they teach the model, are kept with a run, and never play."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import tiny
import torch
import torch.nn.functional as F
from small import session_of, small_model, space_with
from torch import Tensor, nn
from trained_runs import state_of

from accomp.core.data.ingest.stage import ingest
from accomp.core.errors import CheckpointError, CombinationError, SpecError
from accomp.core.model.chunks import chunk_starts
from accomp.core.model.future_heads import give_heads, load_heads
from accomp.core.model.model import Model
from accomp.core.runs.checkpoint import latest_checkpoint, load_run, load_weights
from accomp.core.runs.folder import open_run
from accomp.core.runs.history import read_losses
from accomp.core.spec.build import build_model, check_combination, space_of
from accomp.core.spec.schema import Spec
from accomp.core.training.compile import compile_loss
from accomp.core.training.throughput import step_flops
from accomp.core.training.trainer import train
from accomp.core.types import Batch, Loss
from accomp.plugins.objectives.ar import AR
from accomp.plugins.objectives.prefix import Prefix

B, T, K = 2, 11, 3
SPACE = space_with(K)
VALID = (T, 6)


def batch_of() -> Batch:
    rng = torch.Generator().manual_seed(0)
    return Batch(
        x=torch.randn(B, T, SPACE.latent_dim, generator=rng),
        y=torch.randint(SPACE.codebook_size, (B, K, T), generator=rng),
        valid=torch.arange(T) < torch.tensor(VALID)[:, None],
        labels={"instrument": torch.tensor([0, 1])},
    )


def loss_of(model: Model, objective: Any, batch: Batch) -> Loss:
    return objective.loss(model, batch, model.clock, torch.Generator().manual_seed(0))


def held_by(batch: Batch, step: int) -> Tensor:
    """[B, K]: what step `step` put out, -1 (the labels) too early, -2 where there is no frame or none that is valid."""
    codes = torch.full((B, K), -2)
    for item in range(B):
        for q in range(K):
            if 0 <= step - q < VALID[item]:
                codes[item, q] = batch.y[item, q, step - q]
            elif step - q < 0:
                codes[item, q] = -1
    return codes


def nats_ahead(model: Model, head: nn.Module, h: Tensor, batch: Batch, step: int, j: int) -> list[Tensor]:
    """What the row of a step, h [B, D], loses on each token that is put out j steps later and is there."""
    logits = head(h).view(B, K, -1)
    return [
        F.cross_entropy(logits[item, q], model.vocabulary.first_code + batch.y[item, q, step + j - q])
        for item in range(B)
        for q in range(K)
        if 0 <= step + j - q < VALID[item]
    ]


@pytest.mark.parametrize("t_f", [-3, 0, 1, 4])
def test_head_j_predicts_what_each_step_of_a_clip_puts_out_j_steps_later(t_f: int) -> None:
    model, batch, objective = small_model(t_f, space=SPACE).train(), batch_of(), AR(AR.Config(ahead=3), SPACE)
    plain = loss_of(model, AR(AR.Config(), SPACE), batch)
    heads = give_heads(model, 5, objective)
    loss = loss_of(model, objective, batch)
    y = batch.y.masked_fill(~batch.valid[:, None], -2)
    layout = model.layout
    h = model.hidden(layout.inputs(batch.x, model.input_padding), layout.inputs_of(y), model.start(batch.labels))
    assert isinstance(heads, nn.ModuleList)
    for j in (1, 2, 3):
        rows = range(layout.start, h.shape[1])
        nats = [n for row in rows for n in nats_ahead(model, heads[j - 1], h[:, row], batch, row - layout.start, j)]
        assert torch.allclose(loss.parts[f"ahead_{j}"], torch.stack(nats).mean(), atol=1e-5)
    mean = sum(loss.parts[f"ahead_{j}"] for j in (1, 2, 3)) / 3
    assert torch.allclose(loss.total, plain.total + 0.3 * mean, atol=1e-5)
    assert loss.counts is None, "the total is no mean of the levels"


@pytest.mark.parametrize(("t_f", "k"), [(-2, 3), (0, 4), (3, 2)])
def test_head_j_predicts_what_each_step_of_a_chunk_puts_out_j_steps_later(t_f: int, k: int) -> None:
    """Row after row, as a session plays the chunk; j steps later may be in another chunk."""
    model, batch = small_model(t_f, k, space=SPACE).train(), batch_of()
    objective = Prefix(Prefix.Config(chunks="all", ahead=2, ahead_weight=1.5), SPACE)
    plain = loss_of(model, Prefix(Prefix.Config(chunks="all"), SPACE), batch)
    heads = give_heads(model, 5, objective)
    loss = loss_of(model, objective, batch)
    layout, start = model.layout, model.start(batch.labels)
    x = layout.inputs(batch.x, model.input_padding)
    assert isinstance(heads, nn.ModuleList)
    nats: dict[int, list[Tensor]] = {1: [], 2: []}
    for first in chunk_starts(layout, T):
        state = model.backbone.new_state(B, 4 * T)
        for row in range(layout.start + first + k):
            step = row - layout.start
            before = held_by(batch, step - 1) if step >= 0 else torch.full((B, K), -2)
            heard = x[:, row : row + 1] if step <= first else None
            h = model.hidden(heard, before[..., None], start, state)
            if step >= first:
                for j in nats:
                    nats[j] += nats_ahead(model, heads[j - 1], h[:, 0], batch, step, j)
    for j, found in nats.items():
        assert torch.allclose(loss.parts[f"ahead_{j}"], torch.stack(found).mean(), atol=1e-5)
    mean = (loss.parts["ahead_1"] + loss.parts["ahead_2"]) / 2
    assert torch.allclose(loss.total, plain.total + 1.5 * mean, atol=1e-5)


@pytest.mark.parametrize("kind", [AR, Prefix])
def test_none_ahead_is_the_loss_without_and_draws_nothing(kind: Any) -> None:
    model, batch = small_model(0, space=SPACE).train(), batch_of()
    before = torch.random.get_rng_state()
    objective = kind(kind.Config(ahead=0), SPACE)
    assert give_heads(model, 5, objective) is None
    assert give_heads(model, 5, kind(kind.Config(ahead=2), SPACE)) is not None
    assert torch.equal(torch.random.get_rng_state(), before)
    loss = loss_of(model, objective, batch)
    assert set(loss.parts) == {f"level_{q}" for q in range(K)}
    if kind is AR:
        y = batch.y.masked_fill(~batch.valid[:, None], -2)
        logits = model(batch.x, model.layout.inputs_of(y), batch.labels)
        assert torch.equal(loss.total, model.cross_entropy(logits, model.layout.targets_of(y)).total)


@pytest.mark.parametrize("kind", [AR, Prefix])
def test_heads_teach_what_they_stand_on_and_leave_the_model_s_own_heads_to_the_loss(kind: Any) -> None:
    model, batch = small_model(0, space=SPACE).train(), batch_of()

    def gradients(ahead: int) -> dict[str, Tensor]:
        objective = kind(kind.Config(ahead=ahead), SPACE)
        heads = give_heads(model, 5, objective)
        model.zero_grad()
        loss_of(model, objective, batch).total.backward()
        if heads is not None:
            assert all(weight.grad is not None and weight.grad.any() for weight in heads.parameters())
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    without, with_heads = gradients(0), gradients(2)
    moved = {name for name in without if not torch.allclose(without[name], with_heads[name], atol=1e-7)}
    assert not any(name.startswith("heads") for name in moved)
    assert "table.weight" in moved
    assert any(name.startswith("backbone") for name in moved)


def test_out_of_training_the_loss_is_the_plain_one_and_the_heads_are_reported() -> None:
    model, batch = small_model(0, space=SPACE).eval(), batch_of()
    objective = AR(AR.Config(ahead=2, weights=(1.0, 0.5, 0.0)), SPACE)
    give_heads(model, 5, objective)
    plain, loss = loss_of(model, AR(AR.Config(), SPACE), batch), loss_of(model, objective, batch)
    assert torch.equal(loss.total, plain.total)
    assert plain.counts is not None
    assert loss.counts is not None
    assert torch.equal(loss.counts, plain.counts)
    assert list(loss.parts) == ["level_0", "level_1", "level_2", "ahead_1", "ahead_2"]


def test_the_loss_with_heads_is_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="eager"))
    model, batch, found = small_model(0, space=SPACE).train(), batch_of(), []
    for compiled in (False, True):
        objective = AR(AR.Config(ahead=2), SPACE)
        heads = give_heads(model, 5, objective)
        assert isinstance(heads, nn.ModuleList)
        if compiled:
            assert compile_loss(objective, "on", torch.device("cpu"))
        loss = loss_of(model, objective, batch)
        loss.total.backward()
        found.append((loss.total, loss.parts, heads[1].weight.grad))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A spec with two heads whose store is filled."""
    root = tmp_path_factory.mktemp("data")
    plain = tiny.plain(tiny.corpus(root / "corpus", train=3, validation=2), root / "unused", root / "store.zarr")
    ingest(tiny.spec_of(plain), tiny.registry())
    plain["objective"] = {"plugin": "ar", "ahead": 2}
    plain["train"].update(steps=6, log_every=1, validate_every=3, checkpoint_every=3)  # type: ignore[attr-defined]
    return plain


def spec_in(data: dict[str, Any], run: Path, ahead: int = 2, **train_keys: Any) -> Spec:
    changed = {**data, "run": {**data["run"], "folder": str(run)}, "objective": {"plugin": "ar", "ahead": ahead}}
    return tiny.spec_of({**changed, "train": {**data["train"], **train_keys}})


@pytest.fixture(scope="module")
def trained(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    run.mkdir()
    train(open_in(spec_in(data, run)), tiny.registry(), run)
    return run


def open_in(spec: Spec) -> Spec:
    open_run(spec)
    return spec


def test_an_interrupted_run_ends_with_the_same_weights_and_heads(
    data: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "checkpoints" / "step_000006")
    train(spec_in(data, run), tiny.registry(), run)
    (model, state), (other, there) = state_of(trained), state_of(run)
    torch.testing.assert_close(model, other, rtol=0, atol=0)
    torch.testing.assert_close(state["heads"], there["heads"], rtol=0, atol=0)
    torch.testing.assert_close(state["optimizer"]["state"], there["optimizer"]["state"], rtol=0, atol=0)
    parts = [record["parts"] for record in read_losses(run) if record["kind"] == "validation"]
    assert parts[-1]["ahead_2"] < parts[0]["ahead_2"], "they learn"


def test_a_model_is_the_same_file_with_heads_and_plays_the_same(data: dict[str, Any], trained: Path) -> None:
    registry = tiny.registry()
    spec = spec_in(data, trained, ahead=0)
    space = space_of(spec, registry)
    with_heads, without = load_run(trained, registry).model, build_model(spec, space, registry).eval()
    checkpoint = latest_checkpoint(trained)
    assert checkpoint is not None
    load_weights(checkpoint, without)
    x = torch.randn(2, 16, space.latent_dim, generator=torch.Generator().manual_seed(1))
    played = []
    for model in (with_heads, without):
        session = session_of(model)
        session.push(x)
        played.append(session.pull())
    assert played[0].numel()
    assert torch.equal(*played)


def test_another_training_begins_with_its_model_whatever_it_looks_ahead(
    data: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    weights = state_of(trained)[0]
    for ahead in (0, 1):
        run = tmp_path / f"ahead{ahead}"
        spec = spec_in(data, run, ahead, start=str(trained), steps=1, lr=1e-12, final_lr=1e-12, warmup=1)
        open_run(spec)
        train(spec, tiny.registry(), run)
        torch.testing.assert_close(state_of(run)[0], weights, rtol=0, atol=1e-6)
        assert ("heads" in state_of(run)[1]) == bool(ahead)


def test_a_training_goes_on_with_the_heads_it_had(data: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"objective\.ahead is 1 now, 2 there"):
        open_run(spec_in(data, trained, ahead=1))
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    with pytest.raises(CheckpointError) as refused:
        train(spec_in(data, run, ahead=1, steps=8), tiny.registry(), run)
    assert "looks 2 steps ahead" in str(refused.value)
    assert "looks 1 step ahead" in str(refused.value)
    with pytest.raises(CheckpointError, match="looks 0 steps ahead"):
        load_heads(None, state_of(trained)[1]["heads"], run)


def test_a_run_from_before_there_were_such_keys_is_one_that_looked_no_step_ahead(
    data: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    spec = spec_in(data, tmp_path / "run", ahead=0)
    path = open_run(spec) / "spec.json"
    shutil.copytree(trained / "checkpoints", tmp_path / "run" / "checkpoints")
    held = json.loads(path.read_text())
    del held["objective"]["ahead"], held["objective"]["ahead_weight"]
    path.write_text(json.dumps(held))
    open_run(spec)
    path.write_text(json.dumps(held))
    with pytest.raises(SpecError, match=r"objective\.ahead is 3 now, 0 there"):
        open_run(spec_in(data, tmp_path / "run", ahead=3))


def test_a_step_s_arithmetic_counts_the_heads(data: dict[str, Any], tmp_path: Path) -> None:
    registry = tiny.registry()
    specs = [spec_in(data, tmp_path, ahead) for ahead in (0, 1, 2)]
    flops = [step_flops(spec, space_of(spec, registry), registry) for spec in specs]
    assert flops[2] - flops[1] == flops[1] - flops[0] > 0


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ({"plugin": "ar", "ahead": 17}, "'ahead' must be <= 16"),
        ({"plugin": "ar", "ahead": -1}, "objective.ahead"),
        ({"plugin": "prefix", "ahead": 1, "ahead_weight": 0.0}, "objective.ahead_weight"),
        ({"plugin": "mlm", "ahead": 1}, "unknown key 'ahead'"),
    ],
)
def test_what_cannot_be_is_named(data: dict[str, Any], objective: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as refused:
        tiny.spec_of({**data, "objective": objective})
    assert told in str(refused.value)


def test_looking_beyond_every_clip_is_refused(data: dict[str, Any], tmp_path: Path) -> None:
    spec = spec_in(data, tmp_path, ahead=12)
    check_combination(attrs.evolve(spec, train=attrs.evolve(spec.train, frames=13)), tiny.registry())
    with pytest.raises(CombinationError, match=r"ahead = 12 steps leads beyond every clip of train\.frames = 12"):
        check_combination(attrs.evolve(spec, train=attrs.evolve(spec.train, frames=12)), tiny.registry())
