"""A model of latents through every stage: training that goes on where it was, takes, scores, live sound, a report."""

import json

import numpy as np
import pytest
import tiny
import torch

from accomp.core.data.ingest.stage import ingest
from accomp.core.errors import CheckpointError, CombinationError
from accomp.core.evaluation.evaluate import evaluate
from accomp.core.generation.generate import generate
from accomp.core.generation.latency import as_records, budget_of, part_times
from accomp.core.report.checks import checks
from accomp.core.report.data import read_run
from accomp.core.runs.checkpoint import load_run
from accomp.core.runs.folder import open_run
from accomp.core.runs.history import read_losses
from accomp.core.runs.player import load_player
from accomp.core.runs.run import live_session, perform, play
from accomp.core.training.trainer import train

LATENT = {
    "tokenizer": {"plugin": "loudness"},
    "objective": {"plugin": "rectified_flow"},
    "sampler": {"plugin": "dpmpp", "steps": 2},
    "clock": {"t_f": -3, "k": 5},
    "generate": {"takes": 2, "seconds": 1.0, "prompt": 10},
    "metric": [{"plugin": "envelopes"}, {"plugin": "token"}],
}


def plain(made: tiny.Trained, **sections) -> dict:
    return made.plain(**{**LATENT, **sections})


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tiny.Trained:
    folder = tmp_path_factory.mktemp("latent")
    made = tiny.Trained(folder / "run", tiny.corpus(folder / "corpus"), folder / "store.zarr")
    spec = tiny.spec_of(plain(made))
    open_run(spec)
    ingest(spec, made.registry)
    train(spec, made.registry, made.run)
    return made


def test_losses_are_told_beside_the_line(made):
    records = read_losses(made.run)
    line = next(record for record in records if record["kind"] == "unigram")
    assert (line["unit"], line["what"]) == ("squared error", "mean and variance alone")
    first, *_, last = [record for record in records if record["kind"] == "validation"]
    assert last["loss"] < first["loss"]
    assert list(last["parts"]) == ["t_0", "t_1", "t_2", "t_3"]
    weighted = np.average(list(last["parts"].values()), weights=last["tokens"])
    assert last["loss"] == pytest.approx(weighted, rel=1e-5)
    assert last["context_gain"] is not None


def test_a_run_that_goes_on_ends_with_the_same_weights(made, tmp_path):
    for run, steps in ((tmp_path / "whole", (10,)), (tmp_path / "parts", (5, 10))):
        for until in steps:
            data = plain(made, run={"folder": str(run), "accelerator": "cpu", "threads": 1, "logger": "none"})
            data["train"] = {**data["train"], "steps": until, "lr": 1e-3, "final_lr": 1e-3, "warmup": 0}
            spec = tiny.spec_of(data)
            open_run(spec)
            train(spec, made.registry, run)
    whole, parts = (load_run(tmp_path / name, made.registry).model.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_takes_are_played_and_judged_and_reported(made):
    spec = tiny.spec_of(plain(made))
    generate(spec, made.registry, made.run)
    takes = [json.loads(path.read_text()) for path in (made.run / "takes").glob("*/take.json")]
    assert len(takes) == 2
    assert all(take["streamed_equals_offline"] for take in takes if "streamed_equals_offline" in take)
    evaluate(spec, made.registry, made.run)
    numbers = json.loads((made.run / "metrics.json").read_text())["cells"]["model"]["metrics"]["token"]["numbers"]
    assert {"loss", "context_gain", "loss_t_0"} <= set(numbers)
    assert "accuracy" not in numbers
    text = " ".join(map(str, checks(read_run(made.run))))
    assert "squared error" in text
    assert "mean and variance alone" in text
    assert "nats" not in text


@pytest.mark.parametrize("regime", ["block_causal", "enc_dec"])
def test_live_sound_is_the_offline_sound(made, tmp_path, regime):
    run = made.run
    if regime == "enc_dec":
        run = tmp_path / "run"
        data = plain(made, model={"width": 16, "regime": regime})
        data["run"] = {**data["run"], "folder": str(run)}
        data["train"] = {**data["train"], "steps": 3}
        spec = tiny.spec_of(data)
        open_run(spec)
        train(spec, made.registry, run)
    player = load_player(run, made.registry, torch.device("cpu"))
    sound = tiny.tone(2.0, 5)
    how = {"labels": {"instrument": 4}, "seed": 1, "session": 2}
    whole = perform(player, sound, **how)
    assert whole.audio.shape == sound.shape
    assert whole.codes.shape[0] == 5
    assert whole.codes.dtype == np.float32
    cut = play(player, sound, [700] * 50, **how)
    np.testing.assert_array_equal(cut.codes, whole.codes)
    np.testing.assert_array_equal(cut.audio, whole.audio)
    live = live_session(player, **how)
    heard = [live.pull(ahead=True)]
    for piece in torch.from_numpy(sound)[None].split(640, dim=1):
        live.push(piece)
        heard.append(live.pull(ahead=True))
    early = torch.cat(heard, dim=1)[0].numpy()
    assert len(early) > len(sound), "at t_f < 0 it is there before its input"
    np.testing.assert_array_equal(early[: len(sound)], whole.audio)


def test_the_budget_has_no_delay_between_codebooks(made):
    player = load_player(made.run, made.registry, torch.device("cpu"))
    clock = player.model.clock
    played = play(player, tiny.tone(2.0, 5), [640] * 100, labels={}, seed=0, session=0)
    budget = budget_of(clock, player.tokenizer.space, [part_times(played, clock)])
    assert budget.structural == 0.0
    assert not any("codebooks" in line["name"] for line in as_records(budget))
    assert budget.available == pytest.approx(3 * 0.02)


def test_another_sampler_guidance_or_steps_may_play_and_what_does_not_fit_is_refused(made):
    from accomp.core.spec.sections import PluginSpec
    from accomp.plugins.samplers.euler import Euler
    from accomp.plugins.samplers.top_k import TopK

    sound = tiny.tone(1.0, 5)
    plus = PluginSpec("euler", Euler.Config(steps=3, plus=True))
    players = [
        load_player(made.run, made.registry, torch.device("cpu"), sampler=plus, guidance={"context": w})
        for w in (0.0, 0.7)
    ]
    a, b = (perform(one, sound, labels={}, seed=0, session=0).codes for one in players)
    assert not np.allclose(a, b)
    with pytest.raises(CombinationError, match="CFG\\+\\+"):
        load_player(made.run, made.registry, torch.device("cpu"), sampler=plus)
    with pytest.raises(CombinationError, match="samples 'causal'"):
        load_player(made.run, made.registry, torch.device("cpu"), sampler=PluginSpec("top_k", TopK.Config()))


def test_training_begins_with_the_weights_of_a_run_of_the_same_kind_only(made, tmp_path):
    def begun(**sections):
        data = plain(made, **sections)
        data["run"] = {**data["run"], "folder": str(tmp_path / "next")}
        data["train"] = {**data["train"], "start": str(made.run), "steps": 1}
        spec = tiny.spec_of(data)
        train(spec, made.registry, tmp_path / "next")

    for sections, why in (
        ({"clock": {"t_f": -5, "k": 5}}, "t_f = -3, the spec has t_f = -5"),
        ({"clock": {"t_f": -3, "k": 10}}, "k = 5, the spec has k = 10"),
        ({"model": {"width": 16, "regime": "enc_dec"}}, "block_causal, the spec has regime = enc_dec"),
    ):
        with pytest.raises(CheckpointError, match=why):
            begun(**sections)
