"""Training a model with an ear: from nothing, from one without, interrupted; and playing with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import tiny
import torch
from fakes import FolderCorpus
from trained_runs import state_of

from accomp.core.data.ingest.stage import ingest
from accomp.core.music.annotations import read_annotations
from accomp.core.runs.checkpoint import load_run
from accomp.core.runs.folder import open_run
from accomp.core.runs.history import read_losses
from accomp.core.spec.schema import Spec
from accomp.core.training.trainer import train

KNOWN = read_annotations({"beats": [0.1 + 0.4 * i for i in range(9)], "beats_per_bar": 2, "chords": [[0, 4, "Am"]]})[0]
LISTENING = {"metronome": {"drop": 0.5, "heard": 0.7}, "chart": {"drop": 0.5, "heard": 0.7}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A spec whose store has annotated songs."""
    root = tmp_path_factory.mktemp("data")
    plain = tiny.plain(tiny.corpus(root / "corpus", train=3, validation=2), root / "unused", root / "store.zarr")
    known = FolderCorpus.tracks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            FolderCorpus, "tracks", lambda *a: (attrs.evolve(track, annotations=KNOWN) for track in known(*a))
        )
        ingest(tiny.spec_of(plain), tiny.registry())
    plain["train"].update(steps=6, log_every=1, validate_every=3, checkpoint_every=3)  # type: ignore[attr-defined]
    return plain


def trained_in(data: dict[str, Any], run: Path, timelines: dict[str, Any] = LISTENING, **train_keys: Any) -> Spec:
    conditions = {**data["conditions"], **timelines}
    changed = {**data, "run": {**data["run"], "folder": str(run)}, "conditions": conditions}
    spec = tiny.spec_of({**changed, "train": {**data["train"], **train_keys}})
    open_run(spec)
    train(spec, tiny.registry(), run)
    return spec


@pytest.fixture(scope="module")
def trained(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    trained_in(data, run)
    return run


def test_an_ear_learns_beside_the_model_and_plays_with_it(data: dict[str, Any], trained: Path) -> None:
    losses = [record["parts"] for record in read_losses(trained) if record["kind"] == "validation"]
    for name in LISTENING:
        assert losses[-1][f"ear_{name}"] < losses[0][f"ear_{name}"]
    model = load_run(trained, tiny.registry()).model
    assert set(model.ear.listeners) == set(LISTENING)
    weights, _ = state_of(trained)
    assert all(torch.equal(weight, weights[f"ear.{name}"]) for name, weight in model.ear.state_dict().items())


def test_an_interrupted_training_ends_with_the_same_ear(data: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "checkpoints" / "step_000006")
    trained_in(data, run)
    (model, state), (other, there) = state_of(trained), state_of(run)
    torch.testing.assert_close(model, other, rtol=0, atol=0)
    torch.testing.assert_close(state["optimizer"]["state"], there["optimizer"]["state"], rtol=0, atol=0)


def test_a_model_with_an_ear_begins_with_the_weights_of_one_without(
    data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deaf = {name: {"drop": 0.5} for name in LISTENING}
    trained_in(data, tmp_path / "deaf", deaf, steps=1)
    before = state_of(tmp_path / "deaf")[0]
    trained_in(data, tmp_path / "run", start=str(tmp_path / "deaf"), steps=1, lr=1e-9)
    assert "begins without an ear, which it learns anew" in capsys.readouterr().out
    after = state_of(tmp_path / "run")[0]
    torch.testing.assert_close({name: after[name] for name in before}, before, rtol=0, atol=1e-6)
    assert any(name.startswith("ear.") for name in after)
    trained_in(data, tmp_path / "again", deaf, start=str(tmp_path / "run"), steps=1, lr=1e-9)
    assert "the ear is left out" in capsys.readouterr().out
    assert state_of(tmp_path / "again")[0].keys() == before.keys()
