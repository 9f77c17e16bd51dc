"""A run folder holds one experiment: what it records, and when another spec is refused."""

import json
import platform
import subprocess

import pytest
import torch

from accomp.core.errors import CheckpointError, SpecError
from accomp.core.registry import Registry
from accomp.core.runs import folder as run_folder
from accomp.core.runs.folder import borrow_model, model_folder, open_run, versions
from accomp.core.spec.schema import resolve, structure


@pytest.fixture
def spec(install, tmp_path):
    """spec(**changes) with dotted keys ("train__steps") over a good one whose run folder is tmp_path/run."""
    install("accomp-specs", module="spec_plugins")
    registry = Registry()

    def make(**changes):
        data = {kind: {"plugin": "plain"} for kind in ("fuser", "backbone", "objective", "sampler")}
        data |= {
            "corpus": {"plugin": "shelf", "root": "music"},
            "tokenizer": {"plugin": "codec"},
            "store": {"path": "music.zarr"},
            "clock": {"t_f": -50, "k": 1},
            "model": {"width": 8},
            "train": {"steps": 10, "batch": 2, "lr": 1e-4, "frames": 50},
            "run": {"folder": str(tmp_path / "run")},
        }
        for key, value in changes.items():
            section, name = key.split("__")
            data.setdefault(section, {})[name] = value
        return structure(data, registry)

    return make


def made(folder):
    """As if something was."""
    (folder / "checkpoints" / "step_000001").mkdir(parents=True)
    return folder


def test_a_new_folder_records_the_resolved_spec_and_the_versions(spec, tmp_path):
    folder = open_run(spec())
    assert folder == tmp_path / "run"
    assert json.loads((folder / "spec.json").read_text()) == resolve(spec())
    recorded = json.loads((folder / "versions.json").read_text())
    assert recorded == versions()
    assert recorded["python"] == platform.python_version()
    assert recorded["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert sorted(path.name for path in folder.iterdir()) == ["spec.json", "versions.json"]


def test_the_same_spec_opens_it_again_and_touches_nothing(spec):
    folder = open_run(spec())
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert open_run(spec()) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_another_experiment_is_refused_with_every_key_that_differs(spec):
    folder = made(open_run(spec()))
    before = (folder / "spec.json").read_bytes()
    with pytest.raises(SpecError) as caught:
        open_run(spec(clock__t_f=-25, train__lr=1e-3, tokenizer__plugin="timeless", conditions__mood={"classes": 2}))
    text = str(caught.value)
    assert "clock.t_f is -25 now, -50 there" in text
    assert "train.lr is 0.001 now, 0.0001 there" in text
    assert "tokenizer.plugin is 'timeless' now, 'codec' there" in text
    assert "tokenizer.rate is 'absent' now, 32000 there" in text
    assert "conditions.mood.classes is 2 now, 'absent' there" in text
    assert "--run NEW" in caught.value.problems[-1]
    assert (folder / "spec.json").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"run__threads": 2},
        {"run__precision": "bf16-mixed"},
        {"sampler__plugin": "rich"},
        {"generate__takes": 2},
        {"train__log_every": 3},
        {"train__validate_every": 3},
        {"train__validation_batches": 3},
        {"train__checkpoint_every": 3},
        {"train__keep": 3},
        {"train__steps": 11},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_training_does_not_depend_on_may_change_and_is_recorded(spec, change):
    made(open_run(spec()))
    folder = open_run(spec(**change))
    assert json.loads((folder / "spec.json").read_text()) == resolve(spec(**change))


def test_training_may_grow_but_not_shrink(spec):
    made(open_run(spec()))
    with pytest.raises(SpecError, match=r"train.steps may grow from 10 but not shrink to 9"):
        open_run(spec(train__steps=9))


@pytest.mark.parametrize("content", ["{", "[]", "\0"])
def test_a_broken_record_is_named_and_kept(spec, content):
    folder = open_run(spec())
    (folder / "spec.json").write_text(content)
    with pytest.raises(SpecError, match="move the folder away to begin anew"):
        open_run(spec())
    assert (folder / "spec.json").read_text() == content


def test_other_versions_are_told_and_recorded(spec, monkeypatch, capsys):
    folder = open_run(spec())
    now = versions()
    monkeypatch.setattr(run_folder, "versions", lambda: {**now, "torch": "9.9"})
    open_run(spec())
    assert f"torch {now['torch']} -> 9.9" in capsys.readouterr().err
    assert json.loads((folder / "versions.json").read_text())["torch"] == "9.9"


def test_the_revision_is_that_of_the_checkout_and_says_when_files_differ(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    assert run_folder._git_revision(tmp_path) is None
    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", "code.py")
    git("commit", "-m", "one")
    commit = git("rev-parse", "HEAD").strip()
    assert run_folder._git_revision(tmp_path) == commit
    (tmp_path / "code.py").write_text("2")
    assert run_folder._git_revision(tmp_path) == f"{commit}+changes"


def test_a_borrowed_model_is_found_after_both_have_moved(tmp_path):
    run, model = tmp_path / "a" / "cells" / "x", tmp_path / "a" / "models" / "y"
    for folder in (run, model):
        folder.mkdir(parents=True)
    assert model_folder(run) == run
    borrow_model(run, model)
    assert model_folder(run) == model
    assert str(tmp_path) not in (run / "model.json").read_text()
    (tmp_path / "a").rename(tmp_path / "b")
    assert model_folder(tmp_path / "b" / "cells" / "x") == tmp_path / "b" / "models" / "y"


@pytest.mark.parametrize(
    ("text", "told"), [('{"run": "../gone"}', "which is gone; copy the two"), ("{", "cannot read whose model plays")]
)
def test_a_borrowed_model_that_cannot_be_found_is_told(tmp_path, text, told):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match=told):
        model_folder(tmp_path / "run")
