"""What a precision costs: measured through a session's state, and in float32 what validation measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch

from accomp.core.bench.cases.precision import RUNTIMES, precision
from accomp.core.bench.measuring import show
from accomp.core.cli.main import main
from accomp.core.data.loader import ClipLoader
from accomp.core.errors import CombinationError
from accomp.core.runs.checkpoint import load_run
from accomp.core.spec.build import build_objective
from accomp.core.types import Batch


def test_in_float32_it_is_the_objective_s_loss_and_below_it_is_near(trained: tiny.Trained) -> None:
    lines = precision(trained.run, trained.registry, batches=2, device="cpu")
    assert [line.case for line in lines] == list(RUNTIMES)
    found = load_run(trained.run, trained.registry)
    spec, model = found.spec, found.model
    objective = build_objective(spec, found.tokenizer.space, trained.registry)
    loader = ClipLoader(
        spec.store.path, "validation", found.tokenizer, frames=spec.train.frames, batch=spec.train.batch, seed=0,
        rules=spec.pairs, labels=spec.conditions.labels,
    )  # fmt: skip
    nats = tokens = 0.0
    with torch.inference_mode():
        for clips in loader.fixed(2):
            batch = Batch(found.tokenizer.embed(clips.context), clips.target, clips.valid, clips.labels)
            loss = objective.loss(model, batch, model.clock, torch.Generator())
            assert loss.counts is not None
            nats, tokens = nats + float(loss.total * loss.counts.sum()), tokens + float(loss.counts.sum())
    assert lines[0].figures["tokens"] == tokens
    assert lines[0].figures["loss"] == pytest.approx(nats / tokens, rel=1e-5)
    for line in lines[1:]:
        assert line.figures["loss_more"] == pytest.approx(line.figures["loss"] - lines[0].figures["loss"])
        assert 0 < abs(line.figures["loss_more"]) < 0.05
    size = {line.case: line.figures["weights_mb"] for line in lines}
    assert size["int8"] < size["bfloat16"] < size["float32"]


def test_it_is_told_and_kept(trained: tiny.Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(lambda: precision(trained.run, trained.registry, batches=1), tmp_path / "p.json", None)
    record = json.loads((tmp_path / "p.json").read_text())
    assert [line["bench"] for line in record["lines"]] == ["precision"] * len(RUNTIMES)
    told = capsys.readouterr().out
    assert all(name in told for name in (*RUNTIMES, "nats a token", "MB of weights"))
    assert main(["bench", "precision", str(tmp_path / "none")]) == 2


def test_a_model_that_plays_in_chunks_is_refused(trained: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunked(*arguments, **named):
        found = load_run(*arguments, **named)
        found.model.clock = found.model.clock.__class__(0, 4)
        return found

    monkeypatch.setattr("accomp.core.bench.cases.precision.load_run", chunked)
    with pytest.raises(CombinationError, match=r"plays frame by frame, k = 1"):
        precision(trained.run, trained.registry, batches=1)
