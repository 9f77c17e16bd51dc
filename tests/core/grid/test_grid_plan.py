"""The plan of a grid: what it lists, what it expects things to cost and from what, and that it runs nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import attrs
import grids
import pytest
import tiny

from accomp.core.errors import SpecError
from accomp.core.grid.calibrating import calibrate
from accomp.core.grid.costs import (
    CALIBRATED,
    MEASURED,
    STORED,
    Estimate,
    Rates,
    known_rates,
    playing_shape,
    training_cost,
    training_shape,
    weights,
)
from accomp.core.grid.plan import live, plan
from accomp.core.grid.running import duration
from accomp.core.spec.build import build_model, space_of

SKIP = '[[skip]]\nwhere.clock.t_f = -9\nreason = "too far behind"\n'


def planned(path: Path) -> str:
    return "\n".join(plan(grids.work(path), tiny.registry()))


def test_a_plan_lists_cells_and_shared_work_and_runs_nothing(tmp_path: Path) -> None:
    text = grids.SWEEP.replace("[-2,", "[-9, -2,") + SKIP + grids.GREEDY + grids.ANCHORS + "[runner]\nworkers = 2\n"
    path = grids.write_grid(tmp_path, tmp_path / "no such music", text)
    told = planned(path)
    assert f"grid: 3 cells, 2 trainings, 1 store; {tmp_path / 'grid'}" in told
    assert "done: 0 of 3 cells, 0 of 2 trainings" in told
    assert re.search(r"^t_f=-2 +-0.04 s +0.02 s +about .* about .* perhaps$", told, re.M)
    assert re.search(r"^greedy +0.04 s +0.02 s +that of t_f=2 +about .* no$", told, re.M)
    assert "training t_f=2: t_f=2, greedy" in told
    assert "anchors (true_stem, random_pairing): 3 cells" in told
    assert "too far behind: t_f=-9" in told
    assert re.search(r"time: about .* of work, .* for 2 workers", told)
    assert "filling the store is not among it" in told
    assert f"training: 0 s; from {STORED} (2)" in told
    assert "2 cells (t_f=2, greedy) cannot be played live on any machine" in told
    assert not (tmp_path / "grid").exists()


def test_a_grid_that_is_done_is_planned_from_what_it_took(ran: Path, tmp_path: Path) -> None:
    told = planned(ran / "grid.toml")
    assert "done: 3 of 3 cells, 2 of 2 trainings" in told
    assert "nothing is left to be done" in told
    assert MEASURED in told.partition("warning")[2]
    rates = known_rates(grids.work(ran / "grid.toml"))
    for table in (rates.steps, rates.playing, rates.judging):
        assert {estimate.source for estimate in table.values()} == {MEASURED}
    cells = grids.work(ran / "grid.toml").cells
    behind, greedy = cells[0].cell.spec, cells[2].cell.spec
    assert set(rates.steps) == {training_shape(behind)}
    assert set(rates.playing) == {playing_shape(behind), playing_shape(greedy)}
    budget = live(behind, tiny.registry(), rates).budget
    assert budget is not None
    assert budget.encode > 0
    again = attrs.evolve(behind, train=attrs.evolve(behind.train, steps=600))
    cost = training_cost(again, tiny.registry(), rates)
    assert cost == Estimate(600 * rates.steps[training_shape(behind)].seconds, MEASURED)


def test_only_what_is_not_done_costs_anything(ran: Path, tmp_path: Path) -> None:
    shutil.copytree(ran, tmp_path / "copy")
    path = tmp_path / "copy" / "grid.toml"
    path.write_text(path.read_text().replace(f'folder = "{ran}', f'folder = "{tmp_path / "copy"}')
                    .replace("greedy\" }", "top_k\", k = 2 }"))  # fmt: skip
    told = planned(path)
    assert "done: 2 of 3 cells, 2 of 2 trainings" in told
    assert re.search(r"^t_f=2 .* done +done +(no|yes)$", told, re.M)
    assert "training:" not in told
    assert re.search(rf"playing: .*; from {STORED} \(1\)", told)
    assert re.search(rf"judging: .*; from {MEASURED} \(1\)", told)
    assert re.search(r"of no cell any more, and free to be removed: 1 folders, .* \(greedy-", told)


def test_a_calibration_stands_for_what_was_never_run(tmp_path: Path) -> None:
    path = grids.write_grid(tmp_path, tmp_path, grids.SWEEP + grids.GREEDY)
    work = grids.work(path)
    calibrate(work, tiny.registry())
    rates = known_rates(work)
    spec = work.cells[0].cell.spec
    assert rates.steps[training_shape(spec)].source == CALIBRATED
    assert rates.steps[training_shape(spec)].seconds > 0
    assert len(rates.playing) == 2
    assert rates.judging == {}
    assert {path.name for path in (tmp_path / "grid").iterdir()} == {"calibration.json"}
    told = planned(path)
    assert re.search(rf"training: .*; from {CALIBRATED} \(2\)", told)
    assert f"({CALIBRATED})" in told.partition("warning")[2]
    data = json.loads((tmp_path / "grid" / "calibration.json").read_text())
    data["steps"] = {shape: 3600.0 for shape in data["steps"]}
    (tmp_path / "grid" / "calibration.json").write_text(json.dumps(data))
    assert f"training: 12.0 h; from {CALIBRATED} (2)" in planned(path)
    (tmp_path / "grid" / "calibration.json").write_text("{")
    assert f"from {STORED} (2)" in planned(path)


def test_weights_are_counted_without_making_them(tmp_path: Path) -> None:
    spec = grids.work(grids.write_grid(tmp_path, tmp_path)).cells[0].cell.spec
    model = build_model(spec, space_of(spec, tiny.registry()), tiny.registry())
    assert weights(spec, tiny.registry(), Rates()) == sum(weight.numel() for weight in model.parameters())


def test_shapes_tell_apart_what_takes_another_time(tmp_path: Path) -> None:
    spec = grids.work(grids.write_grid(tmp_path, tmp_path)).cells[0].cell.spec
    same = attrs.evolve(spec, clock=attrs.evolve(spec.clock, t_f=7), seed=8)
    wider = attrs.evolve(spec, model=attrs.evolve(spec.model, width=32))
    assert training_shape(same) == training_shape(spec) != training_shape(wider)
    assert (
        training_cost(wider, tiny.registry(), Rates()).seconds > training_cost(spec, tiny.registry(), Rates()).seconds
    )


def test_a_training_takes_no_longer_than_its_minutes(tmp_path: Path) -> None:
    spec = grids.work(grids.write_grid(tmp_path, tmp_path)).cells[0].cell.spec
    long = attrs.evolve(spec, train=attrs.evolve(spec.train, steps=10**9, minutes=None))
    limited = attrs.evolve(spec, train=attrs.evolve(spec.train, steps=10**9, minutes=2.0))
    brief = attrs.evolve(spec, train=attrs.evolve(spec.train, steps=1, minutes=2.0))
    took = [training_cost(one, tiny.registry(), Rates()).seconds for one in (long, limited, brief)]
    assert took[0] > took[1] == 120 > took[2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[sweep]\nstore.submixes = [1, 2]\n", "fill the same store with different tokens; give each a store.path"),
        ('[sweep]\nmetric = [[], [{ plugin = "envelopes" }]]\n', "play the same takes and are scored differently"),
        ("[set]\nrun.devices = 2\n[sweep]\nseed = [1]\n", "run.devices is more than 1 in 'seed=1'"),
    ],
)
def test_cells_that_cannot_live_together_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SpecError) as error:
        grids.work(grids.write_grid(tmp_path, tmp_path, text))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (90_000, "1 day 1 h"), (59.9, "1 min 0 s")],
)
def test_durations_are_told_for_people(seconds: float, told: str) -> None:
    assert duration(seconds) == told
