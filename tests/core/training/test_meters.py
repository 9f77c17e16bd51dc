"""Sums on the device: the means of the steps, exact over a restart, and the first step that was no number."""

from __future__ import annotations

import json
import math

import pytest
import torch

from accomp.core.training.meters import LossMeter

CPU = torch.device("cpu")


def add(tally: LossMeter, step: int, loss: float, norm: float = 1.0) -> None:
    tally.add(step, {"loss": torch.tensor(loss), "level_0": torch.tensor(2 * loss)}, torch.tensor(norm))


def test_means_since_the_last_time_and_the_last_norm() -> None:
    tally = LossMeter(CPU)
    for step, loss in enumerate([1.0, 2.0, 6.0]):
        add(tally, step + 1, loss, norm=loss)
    assert tally.take() == ({"loss": 3.0, "level_0": 6.0}, 6.0)
    assert tally.state_dict() == {}
    add(tally, 4, 5.0)
    assert tally.take() == ({"loss": 5.0, "level_0": 10.0}, 1.0)


def test_sums_go_on_to_the_last_bit() -> None:
    whole, first, second = LossMeter(CPU), LossMeter(CPU), LossMeter(CPU)
    losses = torch.rand(40, generator=torch.Generator().manual_seed(0)).tolist()
    for step, loss in enumerate(losses):
        add(whole, step + 1, loss)
        add(first if step < 17 else second, step + 1, loss)
        if step == 16:
            second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.take() == whole.take()


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)])
def test_the_first_step_that_is_no_number_is_kept(loss: float, norm: float) -> None:
    tally = LossMeter(CPU)
    add(tally, 1, 2.0)
    assert tally.fault.tolist() == [0, 0, 0]
    add(tally, 2, loss, norm)
    add(tally, 3, math.nan, math.nan)
    add(tally, 4, 1.0)
    tally.take()
    assert tally.fault.tolist() == pytest.approx([2, loss, norm], nan_ok=True)


def test_where_gradients_are_rescaled_only_the_loss_counts() -> None:
    tally = LossMeter(CPU, rescaled=True)
    add(tally, 1, 2.0, math.inf)
    assert tally.fault.tolist() == [0, 0, 0]
    add(tally, 2, math.nan, 1.0)
    assert tally.fault[0] == 2


def test_parts_that_are_no_number_are_named() -> None:
    tally = LossMeter(CPU)
    assert tally.no_numbers() == ""
    tally.add(
        1, {"loss": torch.tensor(math.nan), "t_0": torch.tensor(1.0), "t_3": torch.tensor(math.nan)}, torch.ones(())
    )
    tally.add(2, {"loss": torch.tensor(math.nan), "t_0": torch.tensor(math.nan)}, torch.ones(()))
    assert tally.no_numbers() == " (in t_3)", "what came after is of weights that are no numbers"


def test_a_mean_is_one_over_the_steps_that_have_it() -> None:
    tally, again = LossMeter(CPU), LossMeter(CPU)
    for step, losses in enumerate(
        [{"loss": 1.0, "generator": 4.0}, {"loss": 3.0, "adversary": 2.0}, {"loss": 5.0, "adversary": 6.0}]
    ):
        (tally if step < 2 else again).add(
            step + 1, {name: torch.tensor(one) for name, one in losses.items()}, torch.ones(())
        )
        if step == 1:
            again.load_state_dict(json.loads(json.dumps(tally.state_dict())))
    assert again.take() == ({"loss": 3.0, "generator": 4.0, "adversary": 4.0}, 1.0)
    again.load_state_dict({"steps": 2.0, "loss": 5.0})
    assert again.take()[0] == {"loss": 2.5}, "as earlier versions wrote it"
