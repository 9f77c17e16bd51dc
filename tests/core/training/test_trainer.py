"""Training: resumes bit for bit, stops when asked or when the loss is no number, and records what it should."""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

from accomp.core.data.ingest.stage import ingest
from accomp.core.errors import DataError, PluginError, SpecError, WorkError
from accomp.core.registry import Registry
from accomp.core.report.page import toml
from accomp.core.runs.checkpoint import latest_checkpoint
from accomp.core.runs.history import read_losses
from accomp.core.spec.build import space_of
from accomp.core.spec.schema import Spec
from accomp.core.spec.sections import TrainSpec
from accomp.core.training.optim import learning_rate, optimizer_of
from accomp.core.training.throughput import step_flops
from accomp.core.training.trainer import train
from accomp.core.training.validation import other_songs

TIMED = ("clips_per_second", "data_wait")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A spec whose store is filled."""
    root = tmp_path_factory.mktemp("data")
    plain = tiny.plain(tiny.corpus(root / "corpus", train=3, validation=2), root / "unused", root / "store.zarr")
    ingest(tiny.spec_of(plain), tiny.registry())
    return plain


@pytest.fixture
def registry() -> Registry:
    return tiny.registry()


def spec_with(data: dict[str, Any], run: Path, **train_keys: Any) -> Spec:
    run.mkdir(exist_ok=True)
    changed = {**data, "run": {**data["run"], "folder": str(run)}, "train": {**data["train"], **train_keys}}
    return tiny.spec_of(changed)


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    return load_file(checkpoint.folder / "weights.safetensors")


def same_weights(a: Path, b: Path) -> bool:
    """Bit for bit."""
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def records(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key not in TIMED} for record in read_losses(run)]


class Killer:
    """Listens to training, and does something after a step has been logged."""

    def __init__(self, step: int, act: Any):
        self.step, self.act = step, act

    def accomp_step(self, run: Path, step: int, losses: dict[str, float]) -> None:
        if step == self.step and "train/loss" in losses:
            self.act()


def listening(act: Any, step: int) -> Registry:
    registry = tiny.registry()
    from accomp.core.hooks import hookimpl

    Killer.accomp_step = hookimpl(Killer.accomp_step)  # type: ignore[method-assign]
    registry.pm.register(Killer(step, act))
    return registry


class Crash(Exception):
    pass


def crash() -> None:
    raise Crash


@pytest.fixture(scope="module")
def whole(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run."""
    run = tmp_path_factory.mktemp("whole")
    train(spec_with(data, run), tiny.registry(), run)
    return run


def test_the_loss_falls_below_untrained_and_is_recorded(whole: Path) -> None:
    found = read_losses(whole)
    kinds = [(record["kind"], record["step"]) for record in found]
    assert kinds == [("unigram", 0), ("validation", 0), ("train", 5), ("train", 10), ("validation", 10), ("train", 15),
                     ("train", 20), ("validation", 20)]  # fmt: skip
    validation = [record for record in found if record["kind"] == "validation"]
    assert validation[-1]["loss"] < validation[0]["loss"] - 1
    assert set(validation[0]["parts"]) == {"level_0", "level_1"}
    assert validation[0]["loss"] == pytest.approx(np.mean(list(validation[0]["parts"].values())), abs=0.05)
    assert all(math.isfinite(record["context_gain"]) for record in validation)
    untrained = math.log(1 + 18 + 8)
    assert validation[0]["loss"] == pytest.approx(untrained, abs=0.5)


def test_unigram_is_the_entropy_of_the_validation_targets(whole: Path, data: dict[str, Any]) -> None:
    """Its levels weigh as in the loss beside it."""
    unigram, validation = read_losses(whole)[:2]
    assert 0 < unigram["loss"] < math.log(8)
    for record in (unigram, validation):
        levels = [record["parts"][f"level_{q}"] for q in range(2)]
        assert record["loss"] == pytest.approx(np.average(levels, weights=validation["tokens"]))
    assert validation["tokens"][0] > validation["tokens"][1]  # the delay pattern cuts the clip's last frames


@pytest.mark.parametrize("step", [5, 15])
def test_a_crashed_run_that_is_resumed_equals_one_that_was_not(
    data: dict[str, Any], whole: Path, tmp_path: Path, registry: Registry, step: int
) -> None:
    spec = spec_with(data, tmp_path / "run", checkpoint_every=3)
    with pytest.raises(PluginError, match="raises Crash"):
        train(spec, listening(crash, step), tmp_path / "run")
    crashed = latest_checkpoint(tmp_path / "run")
    assert crashed is not None
    assert crashed.step < step or step % 3 == 0
    with (tmp_path / "run" / "losses.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # what a killed process leaves
    train(spec, registry, tmp_path / "run")
    assert same_weights(whole, tmp_path / "run")
    assert records(tmp_path / "run") == records(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_writes_a_checkpoint(
    data: dict[str, Any],
    whole: Path,
    tmp_path: Path,
    registry: Registry,
    number: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = spec_with(data, tmp_path / "run", checkpoint_every=100, log_every=1, validate_every=100)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(spec, listening(lambda: os.kill(os.getpid(), number), 7), tmp_path / "run")
    assert signal.getsignal(number) is before
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    assert checkpoint.step in (7, 8)
    assert signal.Signals(number).name in capsys.readouterr().out
    train(spec, registry, tmp_path / "run")
    assert same_weights(whole, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    data: dict[str, Any], tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later steps were taken by then, with weights that are no numbers either: none of them is written."""
    from accomp.plugins.objectives.ar import AR

    spec = spec_with(data, tmp_path / "run", checkpoint_every=4, log_every=100, validate_every=100)
    original, calls = AR.loss, []

    def spoilt(self: AR, model: Any, batch: Any, clock: Any, rng: Any) -> Any:
        loss = original(self, model, batch, clock, rng)
        calls.append(model.training)
        if sum(calls) == 9:
            loss.total.data.fill_(float("nan"))
        return loss

    monkeypatch.setattr(AR, "loss", spoilt)
    with pytest.raises(WorkError, match=r"diverged at step 9: loss nan.*lower train\.lr.*step_000008"):
        train(spec, registry, tmp_path / "run")
    assert sum(calls) == 12, "noticed when the next checkpoint was due"
    assert all(bool(weight.isfinite().all()) for weight in weights(tmp_path / "run").values())
    assert "NaN" not in (tmp_path / "run" / "losses.jsonl").read_text()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bfloat16_learns_too(data: dict[str, Any], tmp_path: Path, registry: Registry, precision: str) -> None:
    plain = {**data, "run": {**data["run"], "precision": precision}}
    train(spec_with(plain, tmp_path / "run"), registry, tmp_path / "run")
    first, *_, last = [record["loss"] for record in read_losses(tmp_path / "run") if record["kind"] == "validation"]
    assert last < first - 1
    dtypes = {weight.dtype for weight in weights(tmp_path / "run").values()}
    assert dtypes == {torch.float32 if precision == "bf16-mixed" else torch.bfloat16}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_learns_compiled_and_goes_on_exactly(data: dict[str, Any], tmp_path: Path, registry: Registry) -> None:
    plain = {**data, "run": {**data["run"], "accelerator": "cuda", "precision": "bf16-mixed"}}
    train(spec_with(plain, tmp_path / "whole"), registry, tmp_path / "whole")
    with pytest.raises(PluginError, match="raises Crash"):
        train(spec_with(plain, tmp_path / "run"), listening(crash, 15), tmp_path / "run")
    train(spec_with(plain, tmp_path / "run"), registry, tmp_path / "run")
    first, *_, last = [record["loss"] for record in read_losses(tmp_path / "run") if record["kind"] == "validation"]
    assert last < first - 1
    assert same_weights(tmp_path / "whole", tmp_path / "run")


def test_a_compiled_run_that_is_resumed_equals_one_that_was_not(
    data: dict[str, Any],
    whole: Path,
    tmp_path: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Dropout and withheld conditions among it; its checkpoints are like any other's. Traced, but run as it is."""
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="aot_eager"))
    keys = {"compile": "on", "steps": 4, "log_every": 1, "validate_every": 100, "checkpoint_every": 2}
    through, run = tmp_path / "through", tmp_path / "run"
    train(spec_with(data, through, **keys), registry, through)
    shutil.copytree(through, run)
    shutil.rmtree(run / "checkpoints" / "step_000004")
    train(spec_with(data, run, **keys), registry, run)
    assert capsys.readouterr().out.count("loss and gradients are compiled") == 2
    assert same_weights(through, run)
    assert records(run) == records(through)
    assert weights(run).keys() == weights(whole).keys()


def test_how_fast_the_steps_went_is_told_at_the_end(
    data: dict[str, Any],
    tmp_path: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Per cent of a machine that does 1 GFLOP/s."""
    monkeypatch.setattr("accomp.core.training.trainer.ENOUGH", 5)
    monkeypatch.setattr("accomp.core.training.throughput.matmul_rate", lambda device, dtype: 1e9)
    spec = spec_with(data, tmp_path / "run", steps=6)
    train(spec, registry, tmp_path / "run")
    *found, speed = read_losses(tmp_path / "run")
    assert all(0 <= record["data_wait"] <= 1 for record in found if record["kind"] == "train")
    assert speed["kind"] == "speed"
    clip = step_flops(spec, space_of(spec, registry), registry) / spec.train.batch
    assert speed["flops"] == pytest.approx(speed["clips_per_second"] * clip)
    assert speed["matmul_share"] == pytest.approx(speed["flops"] / 1e9)
    told = capsys.readouterr().out
    assert f"{speed['clips_per_second']:.3g} clips/s" in told
    assert f"{speed['matmul_share']:.0%} of what it reaches in big matrix products (float32)" in " ".join(told.split())


def test_accumulating_equals_a_bigger_batch(data: dict[str, Any], tmp_path: Path, registry: Registry) -> None:
    """Where the parts have as many valid tokens each, as here; otherwise it is the mean of their means."""
    still = {**data, "backbone": {**data["backbone"], "dropout": 0.0}}
    still["conditions"] = {"context": {"drop": 0.0}, "instrument": {"classes": 18, "drop": 0.0}}
    for name, keys in {"big": {"batch": 4}, "split": {"batch": 2, "accumulate": 2}}.items():
        spec = spec_with(still, tmp_path / name, steps=3, **keys)
        train(spec, registry, tmp_path / name)
    norms = [
        [r["gradient_norm"] for r in read_losses(tmp_path / name) if r["kind"] == "train"] for name in ("big", "split")
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    big, split = weights(tmp_path / "big"), weights(tmp_path / "split")
    for name in big:
        torch.testing.assert_close(big[name], split[name], atol=2e-4, rtol=1e-3)


def test_done_is_done_and_more_steps_go_on(
    data: dict[str, Any], tmp_path: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(spec_with(data, run, steps=4), registry, run)
    first = (run / "losses.jsonl").read_text()
    train(spec_with(data, run, steps=4), registry, run)
    assert "already trained" in capsys.readouterr().out
    assert (run / "losses.jsonl").read_text() == first
    train(spec_with(data, run, steps=6), registry, run)
    assert latest_checkpoint(run).step == 6  # type: ignore[union-attr]
    assert [r["step"] for r in read_losses(run) if r["kind"] == "validation"] == [0, 4, 6]


def test_the_global_generator_is_left_alone(data: dict[str, Any], tmp_path: Path, registry: Registry) -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    train(spec_with(data, tmp_path / "run", steps=2), registry, tmp_path / "run")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_only_the_newest_and_the_best_checkpoints_stay(
    data: dict[str, Any], tmp_path: Path, registry: Registry
) -> None:
    run = tmp_path / "run"
    train(spec_with(data, run, checkpoint_every=2, keep=2, lr=0.05, validate_every=5), registry, run)
    validation = [record for record in read_losses(run) if record["kind"] == "validation"]
    best = min(validation, key=lambda record: record["loss"])["step"]
    there = sorted(int(folder.name.removeprefix("step_")) for folder in (run / "checkpoints").iterdir())
    assert set(there) == {best, 18, 20} | ({20} if best == 20 else set())


def test_tensorboard_gets_the_curves(data: dict[str, Any], tmp_path: Path, registry: Registry) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    plain = {**data, "run": {**data["run"], "logger": "tensorboard"}}
    train(spec_with(plain, run, steps=10), registry, run)
    events = EventAccumulator(str(run / "logs"))
    events.Reload()
    assert {"train/loss", "validation/loss", "validation/context_gain", "unigram/loss"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [5, 10]


def test_missing_wandb_is_told(
    data: dict[str, Any], tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {**data, "run": {**data["run"], "logger": "wandb"}}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r"accomp\[wandb\]"):
        train(spec_with(plain, tmp_path / "run"), registry, tmp_path / "run")


def test_a_store_without_validation_songs_is_told(tmp_path: Path, registry: Registry) -> None:
    plain: Any = tiny.plain(tiny.corpus(tmp_path / "corpus", train=1), tmp_path / "run", tmp_path / "store.zarr")
    ingest(tiny.spec_of(plain), registry)
    with pytest.raises(DataError, match="no track of split 'validation'"):
        train(spec_with(plain, tmp_path / "run"), registry, tmp_path / "run")


def test_learning_rate_warms_up_linearly_and_falls_along_a_cosine() -> None:
    spec = TrainSpec(steps=101, batch=1, lr=1.0, frames=1, final_lr=0.1, warmup=20)
    rates = [learning_rate(step, spec) for step in range(101)]
    np.testing.assert_allclose(rates[:20], np.arange(1, 21) / 20)
    assert rates[20] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[20:]))
    steady = TrainSpec(steps=1, batch=1, lr=1e-4, frames=1, final_lr=1e-5)
    assert learning_rate(0, steady) == pytest.approx(1e-4)


def test_the_rate_falls_with_the_time_where_that_is_over_first() -> None:
    spec = TrainSpec(steps=1001, batch=1, lr=1.0, frames=1, final_lr=0.1, minutes=1.0)
    assert learning_rate(10, spec, 0.5) == pytest.approx(0.55)
    assert learning_rate(10, spec, 1.0) == pytest.approx(0.1)
    assert learning_rate(900, spec, 0.1) == learning_rate(900, spec), "steps may be over first"


def test_a_budget_of_time_ends_training_and_counts_earlier_sittings(
    data: dict[str, Any], tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that every look at moves on by a second."""
    ticks = itertools.count()
    monkeypatch.setattr("accomp.core.training.time_limit.time.monotonic", lambda: float(next(ticks)))
    keys: dict[str, Any] = {"steps": 100_000, "checkpoint_every": 1, "validate_every": 100_000, "log_every": 1}
    train(spec_with(data, tmp_path / "run", minutes=0.5, **keys), registry, tmp_path / "run")
    first = latest_checkpoint(tmp_path / "run")
    assert first is not None
    assert 2 < first.step < 30
    assert 0.5 <= first.minutes < 0.8
    rates = [one["lr"] for one in read_losses(tmp_path / "run") if one["kind"] == "train"]
    assert rates[-1] < 0.1 * max(rates)
    train(spec_with(data, tmp_path / "run", minutes=0.5, **keys), registry, tmp_path / "run")
    assert latest_checkpoint(tmp_path / "run").step == first.step, "its time is over"
    train(spec_with(data, tmp_path / "run", minutes=1.0, **keys), registry, tmp_path / "run")
    second = latest_checkpoint(tmp_path / "run")
    assert first.step < second.step < 3 * first.step
    assert 1.0 <= second.minutes < 1.4


def test_weight_decay_is_for_matrices() -> None:
    layer = torch.nn.Linear(3, 2)
    groups = optimizer_of(layer, TrainSpec(steps=1, batch=1, lr=1.0, frames=1, weight_decay=0.5)).param_groups
    assert [(group["weight_decay"], [p.ndim for p in group["params"]]) for group in groups] == [(0.5, [2]), (0.0, [1])]


def test_other_songs() -> None:
    assert other_songs(["a", "a", "b", "a"]) == [2, 2, 3, 2]
    assert other_songs(["a", "a"]) == [None, None]
    assert other_songs([]) == []


def test_context_gain_is_zero_for_a_deaf_model_and_positive_for_one_that_copies(
    data: dict[str, Any], tmp_path: Path
) -> None:
    """An objective that ignores the context gains nothing; one that measures the distance to it loses by another."""
    from accomp.core.data.loader import ClipLoader
    from accomp.core.spec.build import build_model, build_tokenizer
    from accomp.core.training.validation import Validation
    from accomp.core.types import Batch, CodeBatch, Loss

    spec, registry = tiny.spec_of(data), tiny.registry()
    tokenizer = build_tokenizer(spec, registry)
    model = build_model(spec, tokenizer.space, registry)
    loader = ClipLoader(
        spec.store.path, "validation", tokenizer, frames=50, batch=3, seed=0, labels=spec.conditions.labels
    )
    validation = Validation(loader, 4, seed=0)

    class Deaf:
        def loss(self, model: Any, batch: Batch, clock: Any, rng: torch.Generator) -> Loss:
            assert not model.training
            assert model.conditions.context.drop == 0
            return Loss(batch.y.float().mean(), {"a": batch.y.float().mean()})

    class Copying:
        def loss(self, model: Any, batch: Batch, clock: Any, rng: torch.Generator) -> Loss:
            return Loss((batch.x[..., 0] - batch.y[:, 0]).abs().mean(), {})

    def prepare(batch: CodeBatch) -> Batch:
        return Batch(batch.context[:, :1].transpose(1, 2).float(), batch.target, batch.valid, batch.labels)

    deaf: Any = Deaf()
    found = validation.run(model, deaf, prepare)
    assert found["context_gain"] == pytest.approx(0.0, abs=1e-6)
    targets = torch.cat([batch.target for batch in loader.fixed(4)])
    assert found["loss"] == pytest.approx(float(targets.float().mean()), rel=1e-5)
    assert model.training
    assert model.conditions.context.drop == 0.1
    copying: Any = Copying()
    assert validation.run(model, copying, prepare)["context_gain"] > 0.1


def test_records_are_json_without_nan(whole: Path) -> None:
    for line in (whole / "losses.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_with_twice_the_batch_learns(
    data: dict[str, Any], tmp_path: Path, strategy: str
) -> None:
    """They go on where one stopped, and one goes on where they stopped.

    Of each step's clips, which are those of the one process in the same order, the first process takes the first half.
    Lightning starts the second process with the same command line, unless torchrun has; it leaves when training ends.
    """
    still = {**data, "backbone": {**data["backbone"], "dropout": 0.0}}
    still["conditions"] = {"context": {"drop": 0.0}, "instrument": {"classes": 18, "drop": 0.0}}
    keys = {"batch": 4, "log_every": 1, "validate_every": 2, "lr": 1e-3, "final_lr": 1e-3}

    def alone(run: Path, steps: int) -> None:
        train(spec_with(still, run, **keys, steps=steps), tiny.registry(), run)

    one, two = tmp_path / "one", tmp_path / "two"
    alone(one, 2)
    shutil.copytree(one, two)
    alone(one, 6)

    both = {**still, "run": {**still["run"], "folder": "two", "devices": 2, "strategy": strategy}}
    both["train"] = {**still["train"], **keys, "steps": 4, "batch": 2, "validation_batches": 4}
    (tmp_path / "two.toml").write_text(toml(both))
    environment = tiny.install_at(tmp_path / "site")
    words = tiny.command("train", "two.toml")
    if strategy == "fsdp":
        words[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained 4 steps") == 1
    alone(two, 6)

    kinds = [[(record["kind"], record["step"]) for record in read_losses(run)] for run in (one, two)]
    assert kinds[0] == kinds[1]
    for mine, theirs in zip(read_losses(one), read_losses(two), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        if mine["kind"] == "train":
            assert mine["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-4)
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-5, rtol=1e-4)


def test_sharded_weights_want_a_precision_without_a_scale(
    data: dict[str, Any], tmp_path: Path, registry: Registry
) -> None:
    plain = {**data, "run": {**data["run"], "strategy": "fsdp", "precision": "16-mixed"}}
    with pytest.raises(SpecError, match=r"fsdp.*16-mixed.*bf16-mixed"):
        train(spec_with(plain, tmp_path / "run"), registry, tmp_path / "run")


@pytest.mark.parametrize(
    ("keys", "words"),
    [({"accelerator": "quantum"}, "invalid accelerator"), ({"precision": "7-bit"}, "'7-bit' is invalid")],
)
def test_a_device_or_precision_that_is_not_there_is_told(
    data: dict[str, Any], tmp_path: Path, registry: Registry, keys: dict[str, str], words: str
) -> None:
    spec = spec_with(data, tmp_path / "run")
    spec = attrs.evolve(spec, run=attrs.evolve(spec.run, **keys))
    with pytest.raises(SpecError, match=rf"cannot compute with .*{words}"):
        train(spec, registry, tmp_path / "run")


def test_wandb_logs_without_an_account(data: dict[str, Any], tmp_path: Path, registry: Registry) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    run = tmp_path / "run"
    plain = {**data, "run": {**data["run"], "logger": "wandb"}}
    train(spec_with(plain, run, steps=2), registry, run)
    assert list((run / "logs" / "wandb").glob("offline-run-*/*.wandb"))
