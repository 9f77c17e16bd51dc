"""Turns against an adversary: what is rolled out is what is played, gradients stay where they belong, turns survive."""

import json

import pytest
import tiny
import torch
from latents import SPACE, TOLD, E, batch, model, normal, played, session

from accomp.core.data.ingest.stage import ingest
from accomp.core.diffusion.adversary import Adversary
from accomp.core.keyed_random import KeyedRandom
from accomp.core.runs.checkpoint import checkpoint_folder, latest_checkpoint, load_run, load_training
from accomp.core.runs.folder import open_run
from accomp.core.runs.player import playing_checkpoint
from accomp.core.training.trainer import train
from accomp.plugins.objectives.arc_forcing import ArcForcing, _rollout
from accomp.plugins.samplers.ping_pong import PingPong

REGIMES = ("block_causal", "enc_dec")


def arc(**config) -> ArcForcing:
    return ArcForcing(ArcForcing.Config(**{"blocks": 3, "steps": 3, "channels": 4, **config}), SPACE)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("t_f", [-3, 0, 6])
def test_a_rollout_of_all_steps_is_what_a_session_plays(regime, t_f):
    made, k, blocks, steps = model(t_f, 4, regime), 4, 4, 3
    clips = batch(24)
    key = KeyedRandom.of_sessions(0, torch.arange(2), 1)
    noise = torch.stack(
        [
            torch.stack([key.fold(b * k + torch.arange(k)).fold(i).normal(E).mT for i in range(steps)])
            for b in range(blocks)
        ]
    ).double()
    with torch.no_grad():
        rolled = _rollout(made, clips, noise, [steps] * blocks, arc()._levels)
    live = played(session(made, 24, 2, PingPong(PingPong.Config(steps=steps), SPACE)), clips.x)
    torch.testing.assert_close(rolled, live[:, :, : blocks * k], atol=1e-5, rtol=0)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_block_has_a_gradient_through_its_last_prediction_alone(regime):
    made, k = model(0, 4, regime), 4
    clips, noise = batch(24), normal(3, 3, 2, E, k).requires_grad_()
    rolled = _rollout(made, clips, noise, [1, 2, 3], arc()._levels)
    rolled[:, :, 2 * k :].square().sum().backward()
    assert noise.grad is None or not noise.grad.any(), "noise is handed on detached"
    weights = [made.out.weight.grad.clone(), made.clean_in.weight.grad.clone()]
    assert all(weight.any() for weight in weights), "context rows are computed with gradient"
    with torch.no_grad():  # what came before, by hand, and the last step again
        before = _rollout(made, clips, noise, [1, 2], arc()._levels)
    made.zero_grad()
    again = _rollout(made, clips, noise, [1, 2, 3], arc()._levels)
    torch.testing.assert_close(again[:, :, : 2 * k], before, atol=1e-9, rtol=0)
    again[:, :, 2 * k :].square().sum().backward()
    torch.testing.assert_close(made.out.weight.grad, weights[0])


def test_turns_are_by_number_and_the_first_may_be_the_adversarys():
    assert [arc().turn(step) for step in range(4)] == ["generator", "adversary"] * 2
    assert [arc(settle=3).turn(step) for step in range(5)] == ["settling"] * 3 + ["generator", "adversary"]
    with pytest.raises(ValueError, match="least is 4; expected at most steps = 3"):
        arc(least=4)


def test_the_adversary_hears_all_of_the_input_and_what_stands_beside_it():
    made = model(-8, 4, conditions=TOLD)
    from accomp.core.diffusion.adversary import Conditioning, swap_inputs
    from accomp.core.music.timelines import KINDS

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judge = Adversary(made, channels=4).double()
    x = normal(2, 12, E).requires_grad_()
    heard = Conditioning(
        x, {"instrument": torch.tensor([0, 1])}, {"metronome": normal(2, 12, KINDS["metronome"].width)}
    )
    scores, _ = judge(heard, normal(2, 12, E, seed=1), torch.tensor([0.2, 0.7]).double())
    assert scores.shape == (2, 1, 3)
    scores[0, 0, 0].backward()
    seen = x.grad.abs().sum(2) > 0
    assert seen[0].all(), "the first score hears the last frame"
    assert not seen[1].any(), "and nothing of another item"
    assert torch.equal(swap_inputs(heard).x, x[[1, 0]])


def test_each_turn_moves_one_side_and_its_parts_say_which():
    made = model(0, 4).train()
    objective = arc()
    judge = objective.adversary(made).double()
    clips = batch(24)
    for turn, parts in (
        ("generator", {"generator"}), ("adversary", {"adversary", "contrast"}), ("settling", {"flow"})
    ):  # fmt: skip
        rngs = (torch.Generator().manual_seed(s) for s in (1, 2))
        for weight in made.parameters():
            weight.requires_grad_(turn == "generator")
        judge.set_trainable(turn != "generator")
        loss = objective.turn_loss(turn, made, judge, clips, *rngs)
        assert set(loss.parts) == parts
        loss.total.backward()
        for side, moves in ((made, turn == "generator"), (judge, turn != "generator")):
            grads = [weight.grad for weight in side.parameters() if weight.grad is not None]
            assert bool(grads) == moves, turn
            wanted = [name for name, w in side.named_parameters() if w.requires_grad and w.numel() and w.grad is None]
            assert not wanted, (turn, wanted)
            side.zero_grad()
    with pytest.raises(ValueError, match=r"a rollout of objective\.blocks = 7 blocks of k = 4"):
        arc(blocks=7).turn_loss("generator", made, judge, clips, torch.Generator(), torch.Generator())


LATENT = {
    "tokenizer": {"plugin": "loudness"},
    "objective": {"plugin": "arc_forcing", "blocks": 2, "steps": 2, "channels": 4, "settle": 2},
    "sampler": {"plugin": "ping_pong", "steps": 2},
    "clock": {"t_f": -3, "k": 10},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tiny.Trained:
    folder = tmp_path_factory.mktemp("arc")
    made = tiny.Trained(folder / "run", tiny.corpus(folder / "corpus"), folder / "store.zarr")
    ingest(tiny.spec_of(made.plain(**LATENT)), made.registry)
    return made


def trained(made: tiny.Trained, run, *steps: int, log_every: int = 1) -> None:
    for until in steps:
        data = made.plain(**LATENT)
        data["run"] = {**data["run"], "folder": str(run)}
        data["train"] = {**data["train"], "steps": until, "lr": 1e-3, "final_lr": 1e-3, "warmup": 0, "keep": 9,
                         "checkpoint_every": 1, "validate_every": 4, "log_every": log_every}  # fmt: skip
        spec = tiny.spec_of(data)
        open_run(spec)
        train(spec, made.registry, run)


def sides(made: tiny.Trained, run, step: int) -> tuple[dict, dict]:
    """Weights of both after a step."""
    from accomp.core.runs.checkpoint import read_checkpoint

    training = load_training(read_checkpoint(checkpoint_folder(run, step)))
    return load_run(run, made.registry, step=step).model.state_dict(), training["adversary"]["weights"]


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_turns_survive_a_stop_between_two_and_leave_the_other_side_alone(made, tmp_path):
    trained(made, tmp_path / "whole", 6)
    trained(made, tmp_path / "parts", 3, 4, 6)
    for end in (5, 6):
        whole, parts = (sides(made, tmp_path / name, end) for name in ("whole", "parts"))
        assert same(whole[0], parts[0])
        assert same(whole[1], parts[1])
    after = [sides(made, tmp_path / "whole", step) for step in range(1, 7)]
    for step, turn in ((2, "settling"), (3, "generator"), (4, "adversary"), (5, "generator"), (6, "adversary")):
        (model_before, judge_before), (model_now, judge_now) = after[step - 2], after[step - 1]
        assert same(model_before, model_now) == (turn != "generator")
        assert same(judge_before, judge_now) == (turn == "generator")
    lines = [json.loads(line) for line in (tmp_path / "whole/losses.jsonl").read_text().splitlines()]
    parts = [set(line["parts"]) for line in lines if line["kind"] == "train"]
    assert parts == [{"flow"}] * 2 + [{"generator"}, {"adversary", "contrast"}] * 2


def test_the_newest_plays_whatever_the_validation_says(made, tmp_path):
    trained(made, tmp_path / "run", 6, log_every=5)
    assert playing_checkpoint(tmp_path / "run").step == latest_checkpoint(tmp_path / "run").step == 6
    lines = [json.loads(line) for line in (tmp_path / "run/losses.jsonl").read_text().splitlines()]
    (first, *_) = [line for line in lines if line["kind"] == "train"]
    assert {"flow", "generator", "adversary", "contrast"} == set(first["parts"]), "each a mean of its own turns"
