"""Checkpoints: what was saved comes back, whole; what does not fit or is damaged is refused in clear words."""

from __future__ import annotations

import json
import math

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import SPEC, Constant, latents, session_of, small_model, space_with

from accomp.core.errors import CheckpointError
from accomp.core.model.conditions import Conditions, TimelineCondition
from accomp.core.registry import Registry
from accomp.core.runs import checkpoint as checkpoints
from accomp.core.runs.checkpoint import (
    CARD,
    TRAINING,
    WEIGHTS,
    latest_checkpoint,
    load_run,
    load_training,
    load_weights,
    prune_checkpoints,
    read_checkpoint,
    save_checkpoint,
)
from accomp.core.runs.checkpoint_folders import checkpoint_folder
from accomp.core.spec.build import build_model
from accomp.core.spec.schema import resolve, structure

TRAINED = {"optimizer": {"state": {0: {"step": torch.tensor(7.0)}}}, "cursor": [1, 2], "note": "x", "best": math.inf}


@pytest.fixture
def registry(install):
    install("accomp-small", module="small")
    return Registry()


@pytest.fixture
def spec(registry):
    return structure(SPEC, registry)


@pytest.fixture
def save(tmp_path, spec, registry):
    """Save a checkpoint of the spec's model, its weights stirred, at a step of the run in tmp_path."""

    def save(step=5, training=TRAINED):
        model = build_model(spec, Constant().space, registry)
        with torch.no_grad():
            model.table.weight.add_(step)
        return save_checkpoint(tmp_path, step, model, resolve(spec), Constant(), training), model

    return save


def refused(call, *arguments):
    """The words of a CheckpointError."""
    with pytest.raises(CheckpointError) as error:
        call(*arguments)
    return str(error.value)


def test_what_was_saved_comes_back(save, spec, registry, tmp_path):
    folder, model = save()
    assert folder == checkpoint_folder(tmp_path, 5) == tmp_path / "checkpoints" / "step_000005"
    assert sorted(path.name for path in folder.iterdir()) == sorted([WEIGHTS, TRAINING, CARD])
    read = latest_checkpoint(tmp_path)
    assert (read.step, read.space, read.tokenizer, read.fingerprint) == (5, Constant().space, "constant", "small")
    assert structure(read.spec, registry) == spec
    assert set(read.versions) >= {"accomp", "torch"}
    other = build_model(attrs.evolve(spec, seed=9), Constant().space, registry)
    load_weights(read, other)
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in model.state_dict().items())
    training = load_training(read)
    assert training["cursor"] == [1, 2]
    assert training["best"] == math.inf
    assert training["optimizer"]["state"][0]["step"] == 7.0


def test_a_part_that_the_earlier_model_had_not_begins_anew(save, spec, registry, tmp_path):
    _, model = save()
    conditions = Conditions(labels=spec.conditions.labels, timelines={"metronome": TimelineCondition(0.3, heard=0.5)})
    listening = build_model(attrs.evolve(spec, conditions=conditions), Constant().space, registry)
    read, ear = latest_checkpoint(tmp_path), {n: w.clone() for n, w in listening.ear.state_dict().items()}
    assert "ear.features.0.weight' is missing" in refused(load_weights, read, listening)
    assert "timelines.metronome.weight' is missing" in refused(load_weights, read, listening, "ear")
    listening.timelines = torch.nn.ModuleDict()
    assert load_weights(read, listening, "ear")
    assert all(torch.equal(weight, ear[name]) for name, weight in listening.ear.state_dict().items())
    assert torch.equal(listening.table.weight, model.table.weight)
    assert not load_weights(read, model, "ear")
    save_checkpoint(tmp_path, 6, listening, resolve(spec), Constant(), TRAINED)
    without = build_model(spec, Constant().space, registry)
    assert "is not one of the model's" in refused(load_weights, latest_checkpoint(tmp_path), without)
    assert load_weights(latest_checkpoint(tmp_path), without, "ear")
    assert torch.equal(without.table.weight, listening.table.weight)


def test_a_run_plays_again_from_its_folder_alone(save, registry, tmp_path):
    _, model = save()
    loaded = load_run(tmp_path, registry)
    assert loaded.step == 5
    assert not loaded.model.training
    assert loaded.objective.decoding == loaded.sampler.decoding == "causal"
    x = latents(12)
    codes = []
    for each in (model.eval(), loaded.model):
        session = session_of(each, sampler=loaded.sampler)
        session.push(x)
        codes.append(session.pull())
    assert torch.equal(*codes)


def test_the_newest_counts_unless_a_step_is_asked_for(save, registry, tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for step in (5, 1_000_000, 20):
        save(step)
    (tmp_path / "checkpoints" / ".step_000030.killed").mkdir()
    assert latest_checkpoint(tmp_path).step == 1_000_000
    assert load_run(tmp_path, registry, step=20).step == 20
    assert "no checkpoint" in refused(lambda: load_run(tmp_path, registry, step=21))


def test_pruning_keeps_the_newest_and_what_is_spared(save, tmp_path):
    for step in range(1, 7):
        save(step, training=None)
    prune_checkpoints(tmp_path, keep=2, spare={1, 99})
    assert [int(path.name[5:]) for path in sorted((tmp_path / "checkpoints").iterdir())] == [1, 5, 6]


def test_a_killed_save_leaves_the_last_checkpoint(save, tmp_path, monkeypatch):
    save(5)

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "hash_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save(6)
    monkeypatch.undo()
    assert latest_checkpoint(tmp_path).step == 5
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000005"]


@pytest.mark.parametrize("name", [WEIGHTS, TRAINING])
def test_a_truncated_file_is_named_and_the_way_on(save, tmp_path, name):
    save(4)
    folder, _ = save(5)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-10])
    words = refused(latest_checkpoint, tmp_path)
    assert f"truncated or altered: {len(whole) - 10} bytes, {len(whole)} were written @ {folder / name}" in words
    assert f"remove {folder} to go on from step_000004" in words
    (folder / name).unlink()
    assert f"a file is missing @ {folder / name}" in refused(latest_checkpoint, tmp_path)


def test_altered_bytes_are_noticed(save, tmp_path, spec, registry):
    folder, model = save()
    for name, load in ((WEIGHTS, lambda c: load_weights(c, model)), (TRAINING, load_training)):
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)
        assert f"its hash differs; restore it from a copy @ {folder / name}" in refused(load, read_checkpoint(folder))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a checkpoint's description"),
        ("[]", "not a checkpoint's description"),
        ("{}", "KeyError: 'format'"),
        ('{"format": 99, "versions": {"accomp": "7.1"}}', "format 99, written by accomp 7.1; this one reads format 1"),
    ],
)
def test_a_broken_card_is_told(save, tmp_path, text, words):
    folder, _ = save()
    (folder / CARD).write_text(text)
    told = refused(latest_checkpoint, tmp_path)
    assert words in told
    assert str(folder / CARD) in told
    assert f"remove {folder} to go on from the beginning" in told


def test_no_checkpoint_says_what_to_do(registry, tmp_path):
    assert f"no checkpoint yet; train first: accomp train SPEC @ {tmp_path}" in refused(load_run, tmp_path, registry)


def test_weights_only_cannot_train_on(save):
    folder, _ = save(training=None)
    assert "a checkpoint of weights only" in refused(load_training, read_checkpoint(folder))


def test_another_token_space_is_refused_naming_both(save):
    folder, _ = save()
    other = small_model(space=space_with(3, codebook_size=11))
    words = refused(load_weights, read_checkpoint(folder), other)
    assert "codebook_size=10" in words
    assert "codebook_size=11" in words


def test_every_weight_that_does_not_fit_is_named(save, spec, registry):
    folder, model = save()
    weights = load_file(folder / WEIGHTS)
    weights["extra"] = weights.pop("fuser.gate")
    weights["heads.bias"] = torch.zeros(3)
    save_file(weights, folder / WEIGHTS)
    card = json.loads((folder / CARD).read_text())
    card["files"][WEIGHTS] = {
        "bytes": (folder / WEIGHTS).stat().st_size,
        "sha256": checkpoints.hash_file(folder / WEIGHTS),
    }
    (folder / CARD).write_text(json.dumps(card))
    words = refused(load_weights, read_checkpoint(folder), model)
    assert "weight 'fuser.gate' is missing" in words
    assert "weight 'extra' is not one of the model's" in words
    assert "weight 'heads.bias' has shape (3,), the model's (48,)" in words


def test_another_codec_is_refused_naming_both(save, registry, tmp_path):
    folder, _ = save()
    card = json.loads((folder / CARD).read_text())
    card["fingerprint"] = "another"
    (folder / CARD).write_text(json.dumps(card))
    words = refused(load_run, tmp_path, registry)
    assert "trained with tokenizer constant another" in words
    assert "its spec now gives constant small" in words
